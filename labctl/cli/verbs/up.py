"""labctl up: bring a lab up, or repair a running one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from labctl.cli.options import (
    approximate_option,
    firewall_option,
    force_option,
    global_options,
    manifests_option,
    sets_option,
)
from labctl.cli.param_types import NAME, SCENARIO
from labctl.cli.session import Session

if TYPE_CHECKING:
    from labctl.core.iptables import Backend


@click.command("up", short_help="Bring a lab up, or repair a running one.")
@click.argument("scenario", type=SCENARIO)
@click.option("--name", type=NAME, metavar="LAB", help="The lab's name; by default the scenario's name.")
@click.option("--check", is_flag=True, help="Then prove every claim of the scenario, as `labctl check` does.")
@click.option("--dry-run", is_flag=True, help="Only show what would be done.")
@click.option("--keep", is_flag=True, help="Keep what was built if building fails, instead of rolling back.")
@click.option("--profile", is_flag=True, help="Also say which phase took how long, and the memory.")
@click.option("--replace", is_flag=True, help="Replace a running lab that has the same name but another definition.")
@force_option
@approximate_option("Where this kernel lacks a feature, build the model's substitute, and report it.")
@firewall_option("Write rules with iptables-legacy or iptables-nft; by default with legacy where it works.")
@sets_option
@manifests_option
@global_options("json", "verbose", verbose="Also print the equivalent commands.")
@click.pass_obj
def up(
    session: Session,
    scenario: str,
    name: str | None,
    check: bool,
    dry_run: bool,
    keep: bool,
    profile: bool,
    replace: bool,
    force: bool,
    approximate: bool,
    firewall: Backend | None,
    sets: tuple[str, ...],
    manifests: tuple[str, ...],
) -> int:
    """Bring a lab up, or repair a running one.

    SCENARIO is a built-in name (`labctl list --scenarios`), a short name (docker, aks, eks, gke) or a file. A second
    run changes only what differs. If building fails, everything that was created is removed again, unless --keep is
    given. A lab that needs a feature which this kernel lacks is refused; --approximate builds the model's substitute
    for the missing feature, if there is one, and changes nothing if no feature is missing. On a kernel without legacy
    iptables, the rules are written with iptables-nft; --firewall (or LABCTL_FIREWALL) selects one, and the lab keeps
    it.

    If the lab of another user has the scenario's name, yours gets your name behind it: kubenet-anna. --name gives it
    another one.

    --manifest adds objects of Kubernetes to a model with nodes and pods: Services, NetworkPolicies, pods and others.
    With a changed file, the running lab is changed to what the file says.

    \b
    Examples:
      sudo labctl up kubenet --check
      sudo labctl up kubenet --set routing=host --name kubenet-host
      sudo labctl up ./my-lab.yaml --dry-run
      sudo labctl up kubenet --manifest shop.yaml
      sudo labctl up kubenet --profile
    """
    from labctl.cli.up_lab import up_lab

    return up_lab(
        session,
        scenario,
        name=name,
        check=check,
        dry_run=dry_run,
        keep=keep,
        profile=profile,
        replace=replace,
        force=force,
        approximate=approximate,
        firewall=firewall,
        sets=sets,
        manifests=manifests,
    )


COMMAND = up
