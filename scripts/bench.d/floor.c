/*
 * The floor of scripts/bench: it creates (or removes) the benchmark's network with the fewest system calls.
 *
 *     floor up   DIRECTORY PREFIX NODES PODS LEAVES
 *     floor down DIRECTORY PREFIX NODES PODS LEAVES
 *
 * A hub with a veth to every node and every leaf; a bridge per node with PODS pods on it. It is the same
 * network that topology.py describes: names, addresses, routes, forwarding, no IPv6 autoconfiguration.
 * A veth's far end is created in its namespace; netlink messages are sent in batches on one socket per namespace.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BATCH = 60, LO = 1, UPLINK = 2, BRIDGE = 3, FIRST_PORT = 10, NO_AUTOCONF = 1 };

struct space {
    int ns;  /* the namespace itself, in which peers are created */
    int sock; /* rtnetlink inside it */
};

static char buffer[BATCH * 512];
static size_t filled;
static int waiting;

static void die(const char *what)
{
    fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* ---- netlink ------------------------------------------------------------------------------------- */

static struct nlmsghdr *message(int type, int flags, const void *body, size_t length)
{
    struct nlmsghdr *head = (struct nlmsghdr *)(buffer + filled);
    memset(head, 0, NLMSG_SPACE(length));
    head->nlmsg_len = NLMSG_LENGTH(length);
    head->nlmsg_type = type;
    head->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    memcpy(NLMSG_DATA(head), body, length);
    return head;
}

static struct rtattr *attribute(struct nlmsghdr *head, int type, const void *data, size_t length)
{
    struct rtattr *attr = (struct rtattr *)((char *)head + NLMSG_ALIGN(head->nlmsg_len));
    attr->rta_type = type;
    attr->rta_len = RTA_LENGTH(length);
    if (length)
        memcpy(RTA_DATA(attr), data, length);
    head->nlmsg_len = NLMSG_ALIGN(head->nlmsg_len) + RTA_ALIGN(attr->rta_len);
    return attr;
}

static void number(struct nlmsghdr *head, int type, unsigned value) { attribute(head, type, &value, 4); }

static void word(struct nlmsghdr *head, int type, const char *text) { attribute(head, type, text, strlen(text) + 1); }

static void close_attribute(struct nlmsghdr *head, struct rtattr *attr)
{
    attr->rta_len = (char *)head + NLMSG_ALIGN(head->nlmsg_len) - (char *)attr;
}

static void flush(int sock)
{
    char answer[BATCH * 256];
    if (filled && send(sock, buffer, filled, 0) < 0)
        die("send");
    while (waiting > 0) {
        int length = recv(sock, answer, sizeof answer, 0);
        if (length < 0)
            die("recv");
        for (struct nlmsghdr *head = (void *)answer; NLMSG_OK(head, length); head = NLMSG_NEXT(head, length)) {
            struct nlmsgerr *error = NLMSG_DATA(head);
            if (head->nlmsg_type == NLMSG_ERROR && error->error) {
                errno = -error->error;
                die("the kernel refused");
            }
            waiting--;
        }
    }
    filled = 0;
}

static void queue(int sock, struct nlmsghdr *head)
{
    filled += NLMSG_ALIGN(head->nlmsg_len);
    if (++waiting == BATCH)
        flush(sock);
}

/* ---- the objects --------------------------------------------------------------------------------- */

static void add_veth(struct space *at, int index, const char *name, int master, struct space *far, int far_index)
{
    struct ifinfomsg info = {.ifi_index = index}, peer_info = {.ifi_index = far_index};
    struct nlmsghdr *head = message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &info, sizeof info);
    word(head, IFLA_IFNAME, name);
    if (master)
        number(head, IFLA_MASTER, master);
    struct rtattr *linkinfo = attribute(head, IFLA_LINKINFO, 0, 0);
    word(head, IFLA_INFO_KIND, "veth");
    struct rtattr *data = attribute(head, IFLA_INFO_DATA, 0, 0);
    struct rtattr *peer = attribute(head, VETH_INFO_PEER, &peer_info, sizeof peer_info);
    word(head, IFLA_IFNAME, "eth0");
    number(head, IFLA_NET_NS_FD, far->ns);
    close_attribute(head, peer);
    close_attribute(head, data);
    close_attribute(head, linkinfo);
    queue(at->sock, head);
}

static void add_bridge(struct space *at)
{
    struct ifinfomsg info = {.ifi_index = BRIDGE};
    struct nlmsghdr *head = message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &info, sizeof info);
    word(head, IFLA_IFNAME, "br0");
    struct rtattr *linkinfo = attribute(head, IFLA_LINKINFO, 0, 0);
    word(head, IFLA_INFO_KIND, "bridge");
    close_attribute(head, linkinfo);
    queue(at->sock, head);
}

static void set_up(struct space *at, int index)
{
    struct ifinfomsg info = {.ifi_index = index};
    if (index != LO) { /* a separate message: the flags of a message are applied before its AF_SPEC */
        unsigned char mode = NO_AUTOCONF;
        struct nlmsghdr *quiet = message(RTM_NEWLINK, 0, &info, sizeof info);
        struct rtattr *spec = attribute(quiet, IFLA_AF_SPEC, 0, 0);
        struct rtattr *inet6 = attribute(quiet, AF_INET6, 0, 0);
        attribute(quiet, IFLA_INET6_ADDR_GEN_MODE, &mode, 1);
        close_attribute(quiet, inet6);
        close_attribute(quiet, spec);
        queue(at->sock, quiet);
    }
    info.ifi_flags = info.ifi_change = IFF_UP;
    queue(at->sock, message(RTM_NEWLINK, 0, &info, sizeof info));
}

static void add_address(struct space *at, int index, unsigned ip, int length)
{
    struct ifaddrmsg info = {.ifa_family = AF_INET, .ifa_prefixlen = length, .ifa_index = index};
    struct nlmsghdr *head = message(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &info, sizeof info);
    number(head, IFA_LOCAL, htonl(ip));
    number(head, IFA_ADDRESS, htonl(ip));
    queue(at->sock, head);
}

static void add_route(struct space *at, unsigned destination, int length, unsigned via)
{
    struct rtmsg info = {.rtm_family = AF_INET, .rtm_dst_len = length, .rtm_table = RT_TABLE_MAIN,
                         .rtm_protocol = RTPROT_BOOT, .rtm_scope = RT_SCOPE_UNIVERSE, .rtm_type = RTN_UNICAST};
    struct nlmsghdr *head = message(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &info, sizeof info);
    if (length)
        number(head, RTA_DST, htonl(destination));
    number(head, RTA_GATEWAY, htonl(via));
    queue(at->sock, head);
}

/* ---- the namespaces ------------------------------------------------------------------------------ */

static struct space make_space(const char *path, char forward)
{
    struct space made;
    int yes = 1, file;
    if (unshare(CLONE_NEWNET))
        die("unshare");
    if ((file = open(path, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444)) < 0)
        die(path);
    close(file);
    if (mount("/proc/self/ns/net", path, 0, MS_BIND, 0))
        die("mount");
    if ((made.ns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC)) < 0)
        die("namespace");
    if ((made.sock = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE)) < 0)
        die("socket");
    setsockopt(made.sock, SOL_NETLINK, NETLINK_CAP_ACK, &yes, sizeof yes);
    if ((file = open("/proc/sys/net/ipv4/ip_forward", O_WRONLY | O_CLOEXEC)) < 0 || write(file, &forward, 1) != 1)
        die("ip_forward");
    close(file);
    return made;
}

/* ---- the network: see topology.py ---------------------------------------------------------------- */

static const char *directory, *prefix;
static int nodes, pods, leaves;

static unsigned uplink(int far) { return (10U << 24 | 224 << 16 | 0) + (far << 8); }                        /* /24 */
static unsigned pod_net(int node) { return nodes == 1 ? 172U << 24 | 17 << 16 : (10U << 24 | 244 << 16) + (node << 8); }
static int pod_length(void) { return nodes == 1 ? 16 : 24; }

static void each_name(void (*visit)(const char *path, int kind, int one, int two))
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s.hub", directory, prefix);
    visit(path, 0, 0, 0);
    for (int node = 0; node < nodes; node++) {
        snprintf(path, sizeof path, "%s/%s.n%d", directory, prefix, node);
        visit(path, 1, node, 0);
    }
    for (int leaf = 0; leaf < leaves; leaf++) {
        snprintf(path, sizeof path, "%s/%s.l%d", directory, prefix, leaf);
        visit(path, 2, leaf, 0);
    }
    for (int node = 0; node < nodes; node++)
        for (int pod = 0; pod < pods; pod++) {
            snprintf(path, sizeof path, "%s/%s.n%dp%d", directory, prefix, node, pod);
            visit(path, 3, node, pod);
        }
}

static struct space hub, *far_ends, *pod_spaces; /* far ends: the nodes, then the leaves */

static void make(const char *path, int kind, int one, int two)
{
    struct space made = make_space(path, kind < 2 ? '1' : '0');
    if (kind == 0)
        hub = made;
    else if (kind == 3)
        pod_spaces[one * pods + two] = made;
    else
        far_ends[kind == 1 ? one : nodes + one] = made;
}

static void delete(const char *path, int kind, int one, int two)
{
    (void)kind, (void)one, (void)two;
    if (umount2(path, MNT_DETACH) || unlink(path))
        die(path);
}

static void build_node(int node)
{
    struct space *at = &far_ends[node], *pod;
    char name[IFNAMSIZ];
    set_up(at, LO);
    set_up(at, UPLINK);
    add_address(at, UPLINK, uplink(node) + 2, 24);
    add_route(at, 0, 0, uplink(node) + 1);
    add_bridge(at);
    set_up(at, BRIDGE);
    add_address(at, BRIDGE, pod_net(node) + 1, pod_length());
    for (int i = 0; i < pods; i++) {
        snprintf(name, sizeof name, "veth%d", i);
        add_veth(at, FIRST_PORT + i, name, BRIDGE, &pod_spaces[node * pods + i], UPLINK);
        set_up(at, FIRST_PORT + i);
    }
    flush(at->sock);
    for (int i = 0; i < pods; i++) {
        pod = &pod_spaces[node * pods + i];
        set_up(pod, LO);
        set_up(pod, UPLINK);
        add_address(pod, UPLINK, pod_net(node) + 2 + i, pod_length());
        add_route(pod, 0, 0, pod_net(node) + 1);
        flush(pod->sock);
    }
}

static void build(void)
{
    char name[IFNAMSIZ];
    far_ends = calloc(nodes + leaves, sizeof *far_ends);
    pod_spaces = calloc(nodes * pods + 1, sizeof *pod_spaces);
    each_name(make);
    set_up(&hub, LO);
    for (int far = 0; far < nodes + leaves; far++) {
        snprintf(name, sizeof name, "eth%d", far);
        add_veth(&hub, FIRST_PORT + far, name, 0, &far_ends[far], UPLINK);
        set_up(&hub, FIRST_PORT + far);
        add_address(&hub, FIRST_PORT + far, uplink(far) + 1, 24);
    }
    flush(hub.sock);
    for (int node = 0; node < nodes; node++)
        build_node(node);
    for (int far = nodes; far < nodes + leaves; far++) {
        set_up(&far_ends[far], LO);
        set_up(&far_ends[far], UPLINK);
        add_address(&far_ends[far], UPLINK, uplink(far) + 2, 24);
        add_route(&far_ends[far], 0, 0, uplink(far) + 1);
        flush(far_ends[far].sock);
    }
    for (int node = 0; node < nodes; node++)
        add_route(&hub, pod_net(node), pod_length(), uplink(node) + 2);
    flush(hub.sock);
}

int main(int count, char **words)
{
    struct rlimit files;
    if (count != 7) {
        fprintf(stderr, "usage: floor up|down DIRECTORY PREFIX NODES PODS LEAVES\n");
        return 2;
    }
    directory = words[2], prefix = words[3];
    nodes = atoi(words[4]), pods = atoi(words[5]), leaves = atoi(words[6]);
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if (!strcmp(words[1], "up"))
        build();
    else
        each_name(delete);
    return 0;
}
