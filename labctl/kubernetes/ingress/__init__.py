"""Ingress, Gateway and HTTPRoute: which request goes where, and the HTTP proxies that send it there."""
