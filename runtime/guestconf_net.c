/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Network files for whatever service the image has. The host has set addresses and routes already, so
 * each file says "they are as follows" in a way that does no harm when they are there: networkd keeps
 * its configuration, ifupdown gets idempotent commands ("static" would fail with "File exists"),
 * NetworkManager leaves the interface alone.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "runtime/guestconf_impl.h"

#define GW4_ROUTED "169.254.1.1"
#define GW6_ROUTED "fe80::1"
#define IFACE	   "eth0"
#define MARK_LINE  GUEST_MARK "written at each start; remove this line to keep your own\n"

static bool has_family(const struct guest_net *n, int family)
{
	for (size_t i = 0; i < n->n; i++)
		if (n->addrs[i].family == family)
			return true;
	return false;
}

static int gateway(const char *asked, bool routed, const char *own, bool wanted, char *buf,
		   struct vps_err *err)
{
	struct net_addr a;

	buf[0] = '\0';
	if (!wanted)
		return 0;
	if (routed) {
		strcpy(buf, own);
		return 0;
	}
	if (!asked || !*asked)
		return 0;
	if (net_addr_parse(asked, &a) < 0)
		return vps_err_set(err, VPS_EUSAGE, "gateway '%s' is no address", asked);
	net_addr_str(&a, false, buf);
	return 0;
}

int guest_net_init(struct guest_plan *p, struct vps_err *err)
{
	const struct vps_spec *s = p->in->spec;
	struct guest_net *n = &p->net;
	bool routed = !s->net || str_eq(s->net, "routed");
	size_t count = strv_len(p->in->addrs);

	n->has_nic = !str_eq(s->net, "none");
	n->onlink = routed;
	n->dynamic = n->has_nic && !routed && count == 0;
	n->addrs = calloc(count + 1, sizeof(*n->addrs));
	if (!n->addrs)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		if (net_addr_parse(p->in->addrs[i], &n->addrs[i]) < 0)
			return vps_err_set(err, VPS_EUSAGE, "'%s' is no address", p->in->addrs[i]);
		if (routed)
			n->addrs[i].len = n->addrs[i].family == AF_INET ? 32 : 128;
		n->n++;
	}

	int r = gateway(s->gateway, routed, GW4_ROUTED, has_family(n, AF_INET), n->gw4, err);

	return r < 0 ? r : gateway(s->gateway6, routed, GW6_ROUTED, has_family(n, AF_INET6), n->gw6, err);
}

static const char *addr_text(const struct net_addr *a, char *buf)
{
	return net_addr_str(a, true, buf);
}

static void join(struct strbuf *sb, const char *head, char *const *v, const char *sep, const char *tail)
{
	if (!strv_len(v))
		return;
	sb_add(sb, head);
	for (size_t i = 0; v[i]; i++)
		sb_addf(sb, "%s%s", i ? sep : "", v[i]);
	sb_add(sb, tail);
}

/* systemd.network(5). KeepConfiguration: what is there stays while networkd starts and stops. */
static int networkd_file(struct guest_plan *p)
{
	auto_strbuf sb = STRBUF_INIT;
	const struct guest_net *n = &p->net;
	char a[NET_ADDR_STR];

	sb_add(&sb, MARK_LINE "[Match]\nName=" IFACE "\n\n[Network]\n");
	if (n->dynamic)
		sb_add(&sb, "DHCP=yes\n");
	else
		sb_add(&sb, "KeepConfiguration=yes\nDHCP=no\nIPv6AcceptRA=no\nLLDP=no\n");
	join(&sb, "DNS=", p->in->dns, " ", "\n");
	join(&sb, "Domains=", p->in->dns_search, " ", "\n");
	for (size_t i = 0; i < n->n; i++)
		sb_addf(&sb, "Address=%s\n", addr_text(&n->addrs[i], a));
	const char *gws[] = {n->gw4, n->gw6};
	for (size_t i = 0; i < ARRAY_LEN(gws); i++)
		if (*gws[i])
			sb_addf(&sb, "\n[Route]\nGateway=%s\n%s", gws[i],
				n->onlink ? "GatewayOnLink=yes\n" : "");

	struct guest_file *f = guest_add(p, "/etc/systemd/network/10-vps-" IFACE ".network", &sb, 0644);

	if (!f)
		return -ENOMEM;
	f->only_ours = f->optional = !p->in->first_boot;
	return 0;
}

/* interfaces(5). The commands may run again and again. */
static int ifupdown_file(struct guest_plan *p)
{
	auto_strbuf sb = STRBUF_INIT;
	const struct guest_net *n = &p->net;
	char a[NET_ADDR_STR];

	sb_add(&sb, MARK_LINE "auto lo\niface lo inet loopback\n\nsource /etc/network/interfaces.d/*\n");
	if (n->has_nic)
		sb_addf(&sb, "\nauto " IFACE "\niface " IFACE " inet %s\n", n->dynamic ? "dhcp" : "manual");
	if (n->has_nic && !n->dynamic) {
		sb_add(&sb, "\tup ip link set dev " IFACE " up\n");
		for (size_t i = 0; i < n->n; i++)
			sb_addf(&sb, "\tup ip addr replace %s dev " IFACE "%s\n", addr_text(&n->addrs[i], a),
				n->addrs[i].family == AF_INET6 ? " nodad" : "");
		if (*n->gw4)
			sb_addf(&sb, "\tup ip route replace default via %s dev " IFACE "%s\n", n->gw4,
				n->onlink ? " onlink" : "");
		if (*n->gw6)
			sb_addf(&sb, "\tup ip -6 route replace default via %s dev " IFACE "\n", n->gw6);
		if (p->facts->resolvconf) {
			join(&sb, "\tdns-nameservers ", p->in->dns, " ", "\n");
			join(&sb, "\tdns-search ", p->in->dns_search, " ", "\n");
		}
	}

	struct guest_file *f = guest_add(p, "/etc/network/interfaces", &sb, 0644);

	if (!f)
		return -ENOMEM;
	f->only_ours = f->optional = !p->in->first_boot;
	return 0;
}

void guest_net_v2(const struct guest_plan *p, struct strbuf *sb, const char *in)
{
	const struct guest_net *n = &p->net;
	char a[NET_ADDR_STR];

	sb_addf(sb, "%sversion: 2\n%sethernets:\n%s  " IFACE ":\n", in, in, in);
	if (n->dynamic) {
		sb_addf(sb, "%s    dhcp4: true\n%s    dhcp6: true\n", in, in);
		return;
	}
	sb_addf(sb, "%s    dhcp4: false\n%s    dhcp6: false\n%s    accept-ra: false\n", in, in, in);
	if (n->n)
		sb_addf(sb, "%s    addresses:\n", in);
	for (size_t i = 0; i < n->n; i++)
		sb_addf(sb, "%s      - \"%s\"\n", in, addr_text(&n->addrs[i], a));
	if (*n->gw4 || *n->gw6)
		sb_addf(sb, "%s    routes:\n", in);
	if (*n->gw4)
		sb_addf(sb, "%s      - {to: \"0.0.0.0/0\", via: \"%s\"%s}\n", in, n->gw4,
			n->onlink ? ", on-link: true" : "");
	if (*n->gw6)
		sb_addf(sb, "%s      - {to: \"::/0\", via: \"%s\"%s}\n", in, n->gw6,
			n->onlink ? ", on-link: true" : "");
	if (strv_len(p->in->dns)) {
		sb_addf(sb, "%s    nameservers:\n%s      addresses: [", in, in);
		for (size_t i = 0; p->in->dns[i]; i++)
			sb_addf(sb, "%s\"%s\"", i ? ", " : "", p->in->dns[i]);
		sb_add(sb, "]\n");
	}
}

static int netplan_file(struct guest_plan *p)
{
	auto_strbuf sb = STRBUF_INIT;

	sb_add(&sb, MARK_LINE "network:\n");
	guest_net_v2(p, &sb, "  ");

	struct guest_file *f = guest_add(p, "/etc/netplan/90-vps.yaml", &sb, 0600);

	if (!f)
		return -ENOMEM;
	f->only_ours = f->optional = !p->in->first_boot;
	return 0;
}

static int nm_file(struct guest_plan *p)
{
	auto_strbuf sb = STRBUF_INIT;

	sb_add(&sb, MARK_LINE "[keyfile]\nunmanaged-devices=interface-name:" IFACE "\n");

	struct guest_file *f = guest_add(p, "/etc/NetworkManager/conf.d/90-vps.conf", &sb, 0644);

	if (!f)
		return -ENOMEM;
	f->only_ours = f->optional = !p->in->first_boot;
	return 0;
}

static int resolv_files(struct guest_plan *p)
{
	auto_strbuf sb = STRBUF_INIT;
	const char *path = "/etc/resolv.conf";

	/* A guest that asks by DHCP learns its servers that way, unless the definition names some. */
	if (!strv_len(p->in->dns) || (p->net.dynamic && !strv_len(p->in->spec->dns)))
		return 0;
	if (p->facts->resolvconf)
		return 0; /* by interfaces(5) */
	if (p->facts->resolved) {
		path = "/etc/systemd/resolved.conf.d/50-vps.conf";
		sb_add(&sb, MARK_LINE "[Resolve]\n");
		join(&sb, "DNS=", p->in->dns, " ", "\n");
		join(&sb, "Domains=", p->in->dns_search, " ", "\n");
	} else {
		sb_add(&sb, MARK_LINE);
		join(&sb, "search ", p->in->dns_search, " ", "\n");
		join(&sb, "nameserver ", p->in->dns, "\nnameserver ", "\n");
	}

	struct guest_file *f = guest_add(p, path, &sb, 0644);

	if (!f)
		return -ENOMEM;
	f->only_ours = f->optional = !p->in->first_boot;
	return 0;
}

int guest_net_files(struct guest_plan *p)
{
	const struct guest_facts *f = p->facts;
	int r = resolv_files(p);

	/* Without an init of the image nobody reads the others. */
	if (r == 0 && p->in->system && f->ifupdown)
		r = ifupdown_file(p);
	if (!p->in->system || !p->net.has_nic)
		return r;
	if (r == 0 && (f->networkd || f->netplan))
		r = networkd_file(p);
	if (r == 0 && f->netplan)
		r = netplan_file(p);
	if (r == 0 && f->network_manager && !p->net.dynamic)
		r = nm_file(p);
	return r;
}
