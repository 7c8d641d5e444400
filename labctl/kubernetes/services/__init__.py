"""Services: their addresses and endpoints, the rules of kube-proxy, the servers behind them, load balancers."""
