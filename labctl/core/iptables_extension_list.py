"""The list of matches and targets of iptables and ebtables, with their options, as text.

Source: the man pages iptables-extensions(8) and ebtables-nft(8) of iptables 1.8.11, and the help texts of 1.8.9; the
tables and hooks are those that the kernel's modules register. Left out on purpose are options that read a file, start a
program, or make an object that the whole machine shares.
"""

from __future__ import annotations

# Each line: NAME, then its options. A line with `family=` is for that family only. `tables=` and `hooks=` say where the
# kernel accepts it, `protocol=` which -p it needs, `needs=` which options have to be there (`|` is or, `*` is any),
# `one=` those of which only one can be there, `requires=A>B` those that need another. `!` before an option: it may be
# negated. After `=`, the types of its values (see labctl.core.iptables_values), one for each.
MATCHES = """
addrtype needs=--src-type|--dst-type !--src-type=word !--dst-type=word --limit-iface-in --limit-iface-out
ah family=ip protocol=ah !--ahspi=range
ah family=ip6 !--ahspi=range !--ahlen=u32 --ahres
bpf needs=* --bytecode=text
cgroup one=--path|--cgroup needs=* hooks=INPUT,OUTPUT,POSTROUTING !--path=word !--cgroup=u32
cluster one=--cluster-local-node|--cluster-local-nodemask
cluster needs=--cluster-total-nodes,--cluster-local-node|--cluster-local-nodemask,--cluster-hash-seed
cluster --cluster-total-nodes=u32 !--cluster-local-node=u32 !--cluster-local-nodemask=u32 --cluster-hash-seed=u32
comment needs=--comment --comment=comment
connbytes needs=--connbytes,--connbytes-dir,--connbytes-mode !--connbytes=range --connbytes-dir=word
connbytes --connbytes-mode=word
connlabel needs=--label !--label=word --set
connlimit one=--connlimit-upto|--connlimit-above,--connlimit-saddr|--connlimit-daddr
connlimit needs=--connlimit-upto|--connlimit-above --connlimit-upto=u32 !--connlimit-above=u32
connlimit --connlimit-mask=prefix --connlimit-saddr --connlimit-daddr
connmark needs=--mark !--mark=mark
conntrack needs=* !--ctstate=states !--ctproto=protocol !--ctorigsrc=net !--ctorigdst=net !--ctreplsrc=net
conntrack !--ctrepldst=net !--ctorigsrcport=ports !--ctorigdstport=ports !--ctreplsrcport=ports
conntrack !--ctrepldstport=ports !--ctstatus=word !--ctexpire=range --ctdir=word
cpu needs=* !--cpu=u32
dccp protocol=dccp !--sport=ports !--dport=ports !--dccp-types=word !--dccp-option=u8
devgroup needs=* !--src-group=mark !--dst-group=mark
dscp one=--dscp|--dscp-class needs=* !--dscp=u6 !--dscp-class=word
dst family=ip6 !--dst-len=u32 --dst-opts=word
ecn needs=* !--ecn-tcp-cwr !--ecn-tcp-ece !--ecn-ip-ect=u2
esp protocol=esp !--espspi=range
eui64 family=ip6 hooks=PREROUTING,INPUT,FORWARD
frag family=ip6 one=--fragmore|--fraglast !--fragid=range !--fraglen=u32 --fragres --fragfirst --fragmore --fraglast
geoip needs=* !--src-cc=word !--dst-cc=word !--source-country=word !--destination-country=word
hashlimit one=--hashlimit-upto|--hashlimit-above|--hashlimit
hashlimit needs=--hashlimit-upto|--hashlimit-above|--hashlimit,--hashlimit-name --hashlimit-upto=rate
hashlimit --hashlimit-above=rate !--hashlimit=rate --hashlimit-mode=word --hashlimit-srcmask=prefix
hashlimit --hashlimit-dstmask=prefix --hashlimit-name=word --hashlimit-burst=word --hashlimit-htable-size=u32
hashlimit --hashlimit-htable-max=u32 --hashlimit-htable-gcinterval=u32 --hashlimit-htable-expire=u32
hashlimit --hashlimit-rate-match --hashlimit-rate-interval=decimal
hbh family=ip6 !--hbh-len=u32 --hbh-opts=word
helper needs=* !--helper=word
hl family=ip6 one=--hl-eq|--hl-lt|--hl-gt needs=* !--hl-eq=u8 --hl-lt=u8 --hl-gt=u8
icmp family=ip protocol=icmp !--icmp-type=word
icmp6 family=ip6 protocol=ipv6-icmp !--icmpv6-type=word
ipcomp protocol=ipcomp !--ipcompspi=range --compres
iprange needs=* !--src-range=addresses !--dst-range=addresses
ipv4options family=ip --flags=word --any
ipv6header family=ip6 needs=--header !--header=word --soft
ipvs needs=* !--ipvs !--vproto=protocol !--vaddr=net !--vport=port --vdir=word !--vmethod=word !--vportctl=port
length needs=* !--length=range
limit --limit=rate --limit-burst=burst
mac needs=* hooks=PREROUTING,INPUT,FORWARD !--mac-source=mac
mark needs=* !--mark=mark
mh family=ip6 protocol=mobility-header !--mh-type=word
multiport one=--sports|--dports|--ports needs=* protocol=tcp,udp,udplite,sctp,dccp !--sports=port-list
multiport !--dports=port-list !--ports=port-list
nfacct needs=* --nfacct-name=word
osf needs=--genre protocol=tcp hooks=PREROUTING,INPUT,FORWARD !--genre=word --ttl=osf --log=osf
owner requires=--suppl-groups>--gid-owner needs=* hooks=OUTPUT,POSTROUTING !--uid-owner=word !--gid-owner=word
owner !--socket-exists --suppl-groups
physdev needs=* !--physdev-in=device !--physdev-out=device !--physdev-is-in !--physdev-is-out !--physdev-is-bridged
pkttype needs=* !--pkt-type=word
policy requires=--tunnel-src>--mode,--tunnel-dst>--mode,--next>--strict needs=--dir --dir=word --pol=word --strict
policy !--reqid=u32 !--spi=u32 !--proto=ipsec !--mode=word !--tunnel-src=net !--tunnel-dst=net --next
quota needs=* !--quota=u64
rateest --rateest1=word --rateest2=word --rateest=word --rateest-delta --rateest-bps1=optional
rateest --rateest-pps1=optional --rateest-bps2=optional --rateest-pps2=optional --rateest-bps=optional
rateest --rateest-pps=optional !--rateest-lt !--rateest-gt !--rateest-eq
realm family=ip needs=* hooks=INPUT,FORWARD,OUTPUT,POSTROUTING !--realm=word
recent requires=--reap>--seconds one=--set|--rcheck|--update|--remove needs=--set|--rcheck|--update|--remove !--set
recent !--rcheck !--update !--remove --seconds=u32 --reap --hitcount=u16 --rttl --name=word --rsource --rdest
recent --mask=address
rpfilter tables=raw,mangle hooks=PREROUTING --loose --validmark --accept-local --invert
rt family=ip6 requires=--rt-0-not-strict>--rt-0-addrs,--rt-0-addrs>--rt-type,--rt-0-res>--rt-type !--rt-type=u8
rt family=ip6 !--rt-segsleft=range !--rt-len=u32 --rt-0-res --rt-0-addrs=word --rt-0-not-strict
sctp protocol=sctp !--sport=ports !--dport=ports !--chunk-types=word,word
set one=--packets-eq|--packets-lt|--packets-gt,--bytes-eq|--bytes-lt|--bytes-gt needs=--match-set
set !--match-set=ipset,word --return-nomatch !--update-counters !--update-subcounters !--packets-eq=u64
set --packets-lt=u64 --packets-gt=u64 !--bytes-eq=u64 --bytes-lt=u64 --bytes-gt=u64
socket hooks=PREROUTING,INPUT --nowildcard --transparent --restore-skmark
srh family=ip6 !--srh-next-hdr=u8 !--srh-hdr-len-eq=u8 !--srh-hdr-len-gt=u8 !--srh-hdr-len-lt=u8
srh family=ip6 !--srh-segs-left-eq=u8 !--srh-segs-left-gt=u8 !--srh-segs-left-lt=u8 !--srh-last-entry-eq=u8
srh family=ip6 !--srh-last-entry-gt=u8 !--srh-last-entry-lt=u8 !--srh-tag=u16 !--srh-psid=net !--srh-nsid=net
srh family=ip6 !--srh-lsid=net
state needs=* !--state=states
statistic needs=--mode --mode=word !--probability=fraction !--every=u32 --packet=u32
string one=--string|--hex-string needs=--algo,--string|--hex-string --from=u16 --to=u16 --algo=word --icase
string !--string=text !--hex-string=text
tcp protocol=tcp !--sport=ports !--dport=ports !--tcp-flags=tcp-flags,tcp-flags !--syn !--tcp-option=u8
tcpmss needs=* protocol=tcp !--mss=range
time one=--utc|--kerneltz requires=--contiguous>--timestart --datestart=word --datestop=word
time --timestart=word --timestop=word
time !--monthdays=word !--weekdays=word --kerneltz --contiguous --utc --localtz
tos needs=* !--tos=word
ttl family=ip one=--ttl-eq|--ttl-lt|--ttl-gt|--ttl needs=* !--ttl-eq=u8 --ttl-lt=u8 --ttl-gt=u8 --ttl=u8
u32 needs=* !--u32=text
udp protocol=udp !--sport=ports !--dport=ports
"""
TARGETS = """
ACCEPT
AUDIT needs=* --type=word
CHECKSUM needs=* tables=mangle --checksum-fill
CLASSIFY needs=* hooks=FORWARD,OUTPUT,POSTROUTING --set-class=word
CLUSTERIP family=ip tables=filter hooks=INPUT --new --hashmode=word --clustermac=mac --total-nodes=u32
CLUSTERIP family=ip --local-node=u32 --hash-init=u32
CONNMARK one=--set-xmark|--set-mark|--save-mark|--restore-mark|--and-mark|--or-mark|--xor-mark,--mask|--nfmask
CONNMARK one=--mask|--ctmask
CONNMARK needs=--set-xmark|--set-mark|--save-mark|--restore-mark|--and-mark|--or-mark|--xor-mark --set-xmark=mark
CONNMARK --set-mark=mark --save-mark --restore-mark --ctmask=u32 --nfmask=u32 --mask=u32 --and-mark=u32 --or-mark=u32
CONNMARK --xor-mark=u32 --left-shift-mark=shift --right-shift-mark=shift
CONNSECMARK one=--save|--restore needs=* tables=mangle,security --save --restore
CT tables=raw --notrack --helper=word --timeout=word --ctevents=word --expevents=word --zone=word --zone-orig=word
CT --zone-reply=word
DELUDE family=ip tables=filter protocol=tcp
DNAT needs=--to-destination tables=nat hooks=PREROUTING,OUTPUT --to-destination=nat --random --persistent
DNPT family=ip6 hooks=PREROUTING,OUTPUT needs=--src-pfx,--dst-pfx tables=mangle --src-pfx=net --dst-pfx=net
DROP
DSCP one=--set-dscp|--set-dscp-class needs=* tables=mangle --set-dscp=u6 --set-dscp-class=word
ECN family=ip needs=* tables=mangle protocol=tcp --ecn-tcp-remove --ecn-tcp-cwr=u8 --ecn-tcp-ece=u8 --ecn-ip-ect=u8
HL family=ip6 one=--hl-set|--hl-dec|--hl-inc needs=* tables=mangle --hl-set=u8 --hl-dec=u8 --hl-inc=u8
HMARK one=--hmark-spi|--hmark-sport,--hmark-spi|--hmark-dport
HMARK one=--hmark-tuple|--hmark-src-prefix,--hmark-tuple|--hmark-dst-prefix
HMARK needs=--hmark-mod,--hmark-rnd,--hmark-tuple --hmark-tuple=word --hmark-mod=u32 --hmark-offset=u32
HMARK --hmark-rnd=u32 --hmark-src-prefix=word --hmark-dst-prefix=word --hmark-sport-mask=u16 --hmark-dport-mask=u16
HMARK --hmark-spi-mask=u32 --hmark-sport=u16 --hmark-dport=u16 --hmark-spi=u32 --hmark-proto-mask=u16
LOG --log-level=word --log-prefix=log-prefix --log-tcp-sequence --log-tcp-options --log-ip-options --log-uid
LOG --log-macdecode
MARK one=--set-xmark|--set-mark|--and-mark|--or-mark|--xor-mark needs=* --set-xmark=mark --set-mark=mark
MARK --and-mark=u32 --or-mark=u32 --xor-mark=u32
MASQUERADE tables=nat hooks=POSTROUTING --to-ports=nat-ports --random --random-fully
NETMAP needs=--to tables=nat --to=net
NFLOG --nflog-group=u16 --nflog-size=u32 --nflog-threshold=u16 --nflog-prefix=nflog-prefix
NFQUEUE requires=--queue-cpu-fanout>--queue-balance one=--queue-num|--queue-balance --queue-num=u16
NFQUEUE --queue-balance=queues --queue-bypass --queue-cpu-fanout
NOTRACK tables=raw
QUEUE
RATEEST needs=--rateest-name,--rateest-interval,--rateest-ewmalog --rateest-name=word --rateest-interval=word
RATEEST --rateest-ewmalog=word
REDIRECT tables=nat hooks=PREROUTING,OUTPUT --to-ports=nat-ports --random
REJECT tables=filter hooks=INPUT,FORWARD,OUTPUT --reject-with=word
RETURN
SECMARK needs=* tables=mangle,security --selctx=word
SET requires=--exist>--add-set,--timeout>--add-set,--map-mark>--map-set,--map-prio>--map-set,--map-queue>--map-set
SET needs=--add-set|--del-set|--map-set --add-set=ipset,word --del-set=ipset,word --map-set=ipset,word --exist
SET --timeout=u32 --map-mark --map-prio --map-queue
SNAT needs=--to-source tables=nat hooks=POSTROUTING,INPUT --to-source=nat --random --random-fully --persistent
SNPT family=ip6 hooks=INPUT,POSTROUTING needs=--src-pfx,--dst-pfx tables=mangle --src-pfx=net --dst-pfx=net
SYNPROXY protocol=tcp hooks=INPUT,FORWARD --sack-perm --timestamp --wscale=u8 --mss=u16 --ecn
TARPIT protocol=tcp --tarpit --honeypot --reset
TCPMSS one=--set-mss|--clamp-mss-to-pmtu needs=* protocol=tcp --set-mss=u16 --clamp-mss-to-pmtu
TCPOPTSTRIP needs=* tables=mangle protocol=tcp --strip-options=word
TEE needs=--gateway --gateway=address --oif=device
TOS one=--set-tos|--and-tos|--or-tos|--xor-tos needs=* tables=mangle --set-tos=word --and-tos=word --or-tos=word
TOS --xor-tos=word
TPROXY needs=--on-port tables=mangle hooks=PREROUTING protocol=tcp,udp --on-port=port --on-ip=address
TPROXY --tproxy-mark=mark
TRACE tables=raw
TTL family=ip one=--ttl-set|--ttl-dec|--ttl-inc needs=* tables=mangle --ttl-set=u8 --ttl-dec=u8 --ttl-inc=u8
ULOG family=ip --ulog-nlgroup=u32 --ulog-cprange=u32 --ulog-qthreshold=u32 --ulog-prefix=log-prefix
"""
# ebtables does not name its matches: all options of a rule are one list
BRIDGE_MATCHES = """
802_3 protocol=length !--802_3-sap=word !--802_3-type=word
among !--among-dst=word !--among-src=word
arp protocol=ARP,RARP !--arp-op=arp-op !--arp-opcode=arp-op !--arp-htype=word !--arp-ptype=word !--arp-ip-src=net
arp !--arp-ip-dst=net !--arp-mac-src=bridge-mac !--arp-mac-dst=bridge-mac !--arp-gratuitous
ip protocol=IPv4 !--ip-src=net !--ip-source=net !--ip-dst=net !--ip-destination=net !--ip-tos=word
ip !--ip-proto=protocol !--ip-protocol=protocol !--ip-sport=ports !--ip-source-port=ports !--ip-dport=ports
ip !--ip-destination-port=ports !--ip-icmp-type=word !--ip-igmp-type=word
ip6 protocol=IPv6 !--ip6-src=net6 !--ip6-source=net6 !--ip6-dst=net6 !--ip6-destination=net6 !--ip6-tclass=word
ip6 !--ip6-proto=protocol !--ip6-protocol=protocol !--ip6-sport=ports !--ip6-source-port=ports !--ip6-dport=ports
ip6 !--ip6-destination-port=ports !--ip6-icmp-type=word
limit --limit=rate --limit-burst=burst
log --log --log-level=word --log-prefix=log-prefix --log-ip --log-ip6 --log-arp
mark !--mark=mark
nflog --nflog --nflog-group=u16 --nflog-threshold=u16 --nflog-prefix=nflog-prefix
pkttype !--pkttype-type=word
stp !--stp-type=word !--stp-flags=word !--stp-root-prio=range !--stp-root-addr=bridge-mac !--stp-root-cost=range
stp !--stp-sender-prio=range !--stp-sender-addr=bridge-mac !--stp-port=range !--stp-msg-age=range
stp !--stp-max-age=range !--stp-hello-time=range !--stp-forward-delay=range
vlan protocol=802_1Q !--vlan-id=u12 !--vlan-prio=u3 !--vlan-encap=word
"""
BRIDGE_TARGETS = """
ACCEPT
CONTINUE
DROP
RETURN
arpreply protocol=ARP tables=nat hooks=PREROUTING --arpreply-mac=mac --arpreply-target=word
dnat tables=nat hooks=PREROUTING,OUTPUT --to-dst=mac --to-destination=mac --dnat-target=word
mark one=--mark-set|--set-mark|--mark-or|--mark-and|--mark-xor --mark-set=u32 --set-mark=u32 --mark-or=u32
mark --mark-and=u32 --mark-xor=u32 --mark-target=word
redirect tables=nat hooks=PREROUTING --redirect-target=word
snat tables=nat hooks=POSTROUTING --to-src=mac --to-source=mac --snat-arp --snat-target=word
"""
# the long options of the tools themselves; getopt_long also takes an unambiguous beginning of each
MAIN_OPTIONS = """
append atomic-commit atomic-file atomic-init atomic-save change-counters check concurrent delete delete-chain
destination dst exact flush fragments goto help in-interface init-table insert ipv4 ipv6 jump line-numbers list
list-rules logical-in logical-out match modprobe new-chain numeric out-interface policy protocol rename-chain replace
set-counters source src table verbose version wait wait-interval zero
"""
# why some real extensions and options are not here
REFUSED = {
    "IDLETIMER": "it makes a timer that the whole machine shares",
    "LED": "it makes a trigger of the machine's LEDs",
    "SYSRQ": "it lets packets control the whole machine",
    "--object-pinned": "it reads a file of the machine",
    "--among-src-file": "it reads a file of the machine",
    "--among-dst-file": "it reads a file of the machine",
}
