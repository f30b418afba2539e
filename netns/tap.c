/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest that is a machine: its card is a tap, joined to what would be the container's interface.
 * Each takes what the other receives (tc-mirred(8)), below bridges, addresses and neighbours, so all
 * rules stay where they are for a container, on the host's end of the pair, out of the VMM's reach.
 */
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/tc_act/tc_mirred.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "netns/link.h"

struct visit {
	int netns_fd;
	struct ifreq ifr;
	const char *what;
	int result; /* fd or -errno */
};

/* As nl_open_in's: shares our memory and files, so nothing but system calls. */
static int visitor(void *arg)
{
	struct visit *v = arg;
	int fd = -1;

	v->what = "enter the network namespace";
	if (setns(v->netns_fd, CLONE_NEWNET) == 0) {
		v->what = "open /dev/net/tun";
		fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	}
	if (fd >= 0) {
		v->what = "make a tap";
		if (ioctl(fd, TUNSETIFF, &v->ifr) == 0) {
			v->result = fd;
			return 0;
		}
	}
	v->result = -errno;
	close(fd);
	return 0;
}

int net_tap_make(int netns_fd, const char *name, struct vps_err *err)
{
	struct visit v = {.netns_fd = netns_fd, .result = -ECHILD};
	char stack[16384] __attribute__((aligned(16)));
	int r;

	if (strlen(name) >= IFNAMSIZ)
		return vps_err_set(err, VPS_EUSAGE, "bad name of a tap");
	strcpy(v.ifr.ifr_name, name);
	v.ifr.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;

	pid_t pid = clone(visitor, stack + sizeof(stack), CLONE_VM | CLONE_VFORK | CLONE_FILES, &v);

	if (pid < 0)
		return vps_err_sys(err, -errno, "make a tap");
	while (waitpid(pid, NULL, __WCLONE) < 0 && errno == EINTR)
		;
	r = v.result;
	if (r == -ENOENT || r == -ENODEV || r == -ENXIO)
		return vps_err_set(err, VPS_EUNSUPPORTED, "this host has no /dev/net/tun: modprobe tun");
	return r < 0 ? vps_err_sys(err, r, "%s", v.what) : r;
}

/* Whatever `from` receives leaves by `to`. */
static int redirect(struct nl *n, int from, int to)
{
	struct tcmsg q = {.tcm_family = AF_UNSPEC,
			  .tcm_ifindex = from,
			  .tcm_parent = TC_H_INGRESS,
			  .tcm_handle = TC_H_MAKE(TC_H_INGRESS, 0)};
	struct tcmsg f = {.tcm_family = AF_UNSPEC,
			  .tcm_ifindex = from,
			  .tcm_parent = TC_H_MAKE(TC_H_INGRESS, 0),
			  .tcm_info = TC_H_MAKE(1u << 16, htons(ETH_P_ALL))};
	struct tc_mirred m = {
		.action = TC_ACT_STOLEN, .eaction = TCA_EGRESS_REDIR, .ifindex = (uint32_t)to};
	struct nlmsghdr *h = nl_begin(n, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, &q, sizeof(q));
	int r;

	nl_put_str(h, TCA_KIND, "ingress");
	r = nl_talk(n, h, NULL, NULL);
	if (r < 0 && r != -EEXIST)
		return r;
	h = nl_begin(n, RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, &f, sizeof(f));
	nl_put_str(h, TCA_KIND, "matchall");

	struct nlattr *options = nl_nest(h, TCA_OPTIONS);
	struct nlattr *acts = nl_nest(h, TCA_MATCHALL_ACT);
	struct nlattr *act = nl_nest(h, 1);

	nl_put_str(h, TCA_ACT_KIND, "mirred");

	struct nlattr *parms = nl_nest(h, TCA_ACT_OPTIONS);

	nl_put(h, TCA_MIRRED_PARMS, &m, sizeof(m));
	nl_nest_end(h, parms);
	nl_nest_end(h, act);
	nl_nest_end(h, acts);
	nl_nest_end(h, options);
	return nl_talk(n, h, NULL, NULL);
}

/* Nothing of the namespace itself may speak on the wire: not even a link-local address. */
static int silence(struct nl *n, int index, uint32_t mtu)
{
	struct ifinfomsg ifi = {.ifi_index = index};
	struct nlmsghdr *h = nl_begin(n, RTM_NEWLINK, 0, &ifi, sizeof(ifi));
	int r = 0;

	if (mtu) {
		nl_put_u32(h, IFLA_MTU, mtu);
		r = nl_talk(n, h, NULL, NULL);
	}
	if (r < 0)
		return r;
	h = nl_begin(n, RTM_NEWLINK, 0, &ifi, sizeof(ifi));

	struct nlattr *spec = nl_nest(h, IFLA_AF_SPEC);
	struct nlattr *inet6 = nl_nest(h, AF_INET6);

	nl_put_u8(h, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
	nl_nest_end(h, inet6);
	nl_nest_end(h, spec);
	r = nl_talk(n, h, NULL, NULL);
	/* A host booted with ipv6.disable=1 has no such family. */
	return r == -EAFNOSUPPORT ? 0 : r;
}

int tap_join(struct nl *in, int guest, const char *tap, struct vps_err *err)
{
	struct link_info g, t;
	int r = link_get_index(in, guest, &g);

	r = r ?: link_get(in, tap, &t);
	r = r ?: silence(in, guest, 0);
	r = r ?: silence(in, t.index, g.mtu);
	if (r < 0)
		return nl_fail(in, err, r, "the machine's '%s'", tap);
	r = redirect(in, guest, t.index);
	r = r ?: redirect(in, t.index, guest);
	if (r == -ENOENT)
		return vps_err_set(err, VPS_EUNSUPPORTED,
				   "this kernel cannot join a machine's card to a link: modprobe -a "
				   "sch_ingress cls_matchall act_mirred");
	r = r ?: link_up(in, t.index);
	return r < 0 ? nl_fail(in, err, r, "join '%s' to the VPS's link", tap) : 0;
}
