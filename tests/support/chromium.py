"""How tests start Chromium: without the parts of its window that no test sees.

Where Chromium has a window of its own for the suggestions of the address bar, it loads two pages for them with each
new window, which takes as much processor time as the page of the test. It also starts a process in advance for the next
page, which most tests do not open.
"""

from __future__ import annotations

WITHOUT = ("WebUIOmniboxPopup", "WebUIOmniboxAimPopup", "SpareRendererForSitePerProcess")
# Playwright gives a list too, and Chromium takes the last one: this is Playwright's
OF_PLAYWRIGHT = (
    "AvoidUnnecessaryBeforeUnloadCheckSync",
    "DestroyProfileOnBrowserClose",
    "HttpsUpgrades",
    "HttpsFirstBalancedModeAutoEnable",
    "LensOverlay",
    "MediaRouter",
    "PaintHolding",
    "ThirdPartyStoragePartitioning",
    "AvoidCorsURLLoaderRestartOnRedirect",
    "OptimizationHints",
    "NetworkTimeServiceQuerying",
    "AimEnabled",
    "PreconnectToSearch",
)
ARGUMENTS = ("--no-sandbox", "--disable-gpu", f"--disable-features={','.join((*OF_PLAYWRIGHT, *WITHOUT))}")
