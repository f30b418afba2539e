/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between the files of the guest plan. */
#ifndef VPS_RUNTIME_GUESTCONF_IMPL_H
#define VPS_RUNTIME_GUESTCONF_IMPL_H

#include "base/str.h"
#include "netns/netns.h"
#include "runtime/guestconf.h"

/* What the guest's eth0 has, from definition and leases. */
struct guest_net {
	bool has_nic;	/* not --net none */
	bool dynamic;	/* a bridge or macvlan without addresses: the guest asks by DHCP */
	bool onlink;	/* the gateways are link-local (routed) */
	struct net_addr *addrs;
	size_t n;
	char gw4[NET_ADDR_STR], gw6[NET_ADDR_STR]; /* "" none */
};

struct guest_plan {
	const struct guest_input *in;
	const struct guest_facts *facts;
	struct guest_net net;
	struct guest_file *files;
	size_t n, cap;
};

/* Adds a file and returns it for its flags; takes sb (reset). NULL when out of memory. */
struct guest_file *guest_add(struct guest_plan *p, const char *path, struct strbuf *sb,
			     mode_t mode);
struct guest_file *guest_add_link(struct guest_plan *p, const char *path, const char *to);

/* guestconf_net.c */
int guest_net_init(struct guest_plan *p, struct vps_err *err);
int guest_net_files(struct guest_plan *p);
/* Netplan's and cloud-init's common format, version 2, indented by `indent`. */
void guest_net_v2(const struct guest_plan *p, struct strbuf *sb, const char *indent);

#endif
