/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The plan of a guest's own files, runtime/guestconf.h. Pure. */
#include "runtime/guestconf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "runtime/guestconf_impl.h"

struct guest_file *guest_add(struct guest_plan *p, const char *path, struct strbuf *sb, mode_t mode)
{
	struct guest_file f = {.path = strdup(path), .mode = mode};

	f.len = sb ? sb->len : 0;
	f.data = sb ? sb_take(sb) : strdup("");
	if (!f.path || !f.data || mem_grow(p->files, p->n, p->cap) < 0) {
		free(f.path);
		free(f.data);
		return NULL;
	}
	p->files[p->n] = f;
	return &p->files[p->n++];
}

struct guest_file *guest_add_link(struct guest_plan *p, const char *path, const char *to)
{
	struct guest_file *f = guest_add(p, path, NULL, 0777);

	if (f && !(f->link_to = strdup(to)))
		return NULL; /* the caller gives up the whole plan */
	return f;
}

void guest_files_free(struct guest_file *f, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(f[i].path);
		free(f[i].data);
		free(f[i].link_to);
	}
	free(f);
}

static const char *host_name(const struct vps_spec *s)
{
	return s->hostname && *s->hostname ? s->hostname : s->name;
}

/* The operator's word holds at each start; a name that was only derived is the tenant's to change. */
static int name_files(struct guest_plan *p)
{
	auto_strbuf name = STRBUF_INIT, hosts = STRBUF_INIT, line = STRBUF_INIT;
	const char *fqdn = host_name(p->in->spec);
	size_t n = strcspn(fqdn, ".");
	bool named = p->in->spec->hostname && *p->in->spec->hostname;
	struct guest_file *f;

	if (!named && !p->in->first_boot)
		return 0;
	sb_addf(&name, "%s\n", fqdn);
	f = guest_add(p, "/etc/hostname", &name, 0644);
	if (!f)
		return -ENOMEM;
	f->optional = !p->in->first_boot;
	if (!p->facts->etc_hosts) {
		sb_add(&hosts, "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
			       "ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n");
		f = guest_add(p, "/etc/hosts", &hosts, 0644);
		if (!f)
			return -ENOMEM;
		f->only_missing = true;
		f->optional = !p->in->first_boot;
	}
	sb_addf(&line, "127.0.1.1\t%s", fqdn);
	if (fqdn[n])
		sb_addf(&line, " %.*s", (int)n, fqdn);
	f = guest_add(p, "/etc/hosts", &line, 0644);
	if (!f)
		return -ENOMEM;
	f->append_line = true;
	f->optional = !p->in->first_boot;
	return 0;
}

/* Images are copied, identities are not: machine-id(5) is the VPS's uuid. */
static int machine_id(struct guest_plan *p)
{
	auto_strbuf sb = STRBUF_INIT;

	if (!p->facts->systemd && !p->facts->machine_id)
		return 0;
	for (const char *c = p->in->spec->uuid; *c; c++)
		if (*c != '-')
			sb_addc(&sb, *c);
	sb_addc(&sb, '\n');
	return guest_add(p, "/etc/machine-id", &sb, 0444) ? 0 : -ENOMEM;
}

static int root_keys(struct guest_plan *p)
{
	for (char **k = p->in->spec->ssh_keys; k && *k; k++) {
		auto_strbuf sb = STRBUF_INIT;

		sb_add(&sb, *k);

		struct guest_file *f = guest_add(p, "/root/.ssh/authorized_keys", &sb, 0600);

		if (!f)
			return -ENOMEM;
		f->append_line = true;
	}
	return 0;
}

/* A unit that systemd runs at boot, inside, as the tenant. */
static int unit(struct guest_plan *p, const char *name, const char *text)
{
	autofree char *path = str_fmt("/etc/systemd/system/%s", name);
	autofree char *want = str_fmt("/etc/systemd/system/multi-user.target.wants/%s", name);
	autofree char *to = str_fmt("../%s", name);
	auto_strbuf sb = STRBUF_INIT;

	sb_add(&sb, text);
	if (!path || !want || !to || !guest_add(p, path, &sb, 0644) || !guest_add_link(p, want, to))
		return -ENOMEM;
	return 0;
}

static int add_removal(struct guest_plan *p, const char *path)
{
	struct guest_file *f = guest_add(p, path, NULL, 0);

	if (!f)
		return -ENOMEM;
	f->remove = true;
	f->optional = p->in->copied; /* a tenant's disk, whatever it made of the place */
	return 0;
}

/* What two servers must not have the same: seeds of random numbers, secrets, and ids beside machine-id. */
static int copied_things(struct guest_plan *p)
{
	static const char *const paths[] = {
		"/var/lib/dbus/machine-id", /* then it is that of /etc */
		"/var/lib/systemd/random-seed",
		"/var/lib/systemd/credential.secret",
		"/var/lib/urandom/random-seed",
		"/var/lib/NetworkManager/secret_key",
		"/var/lib/dhcp/dhclient.leases",
		"/var/lib/dhcp/dhclient.eth0.leases",
		"/var/lib/dhcp/dhclient6.eth0.leases",
	};

	for (size_t i = 0; p->in->copied && i < ARRAY_LEN(paths); i++)
		if (add_removal(p, paths[i]) < 0)
			return -ENOMEM;
	return 0;
}

/* Host keys that come with an image are known to all who have the image: they go, and new ones are made
 * inside at the first boot. */
static int ssh_host_keys(struct guest_plan *p)
{
	static const char *const kinds[] = {"rsa", "dsa", "ecdsa", "ed25519"};

	if (!p->facts->sshd && !p->in->copied)
		return 0;
	for (size_t i = 0; i < ARRAY_LEN(kinds) && (p->facts->ssh_host_keys || p->in->copied); i++)
		for (int pub = 0; pub < 2; pub++) {
			autofree char *path =
				str_fmt("/etc/ssh/ssh_host_%s_key%s", kinds[i], pub ? ".pub" : "");
			if (!path || add_removal(p, path) < 0)
				return -ENOMEM;
		}
	if (p->facts->init == GUEST_INIT_SYSTEMD)
		return unit(p, "vps-ssh-keys.service",
			    "[Unit]\n"
			    "Description=Make this server's own SSH host keys\n"
			    "Before=ssh.service sshd.service\n"
			    "ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key\n"
			    "ConditionPathExists=/usr/bin/ssh-keygen\n"
			    "\n"
			    "[Service]\n"
			    "Type=oneshot\n"
			    "RemainAfterExit=yes\n"
			    "ExecStart=/usr/bin/ssh-keygen -A\n"
			    "\n"
			    "[Install]\n"
			    "WantedBy=multi-user.target\n");
	if (!p->facts->rcs)
		return 0;

	auto_strbuf sb = STRBUF_INIT;

	sb_add(&sb, "#!/bin/sh\n"
		    "### BEGIN INIT INFO\n"
		    "# Provides:          vps-ssh-keys\n"
		    "# Required-Start:    $local_fs\n"
		    "# Required-Stop:\n"
		    "# Default-Start:     S\n"
		    "# Default-Stop:\n"
		    "# Short-Description: make this server's own SSH host keys\n"
		    "### END INIT INFO\n"
		    "[ -e /etc/ssh/ssh_host_ed25519_key ] || /usr/bin/ssh-keygen -A\n");
	return guest_add(p, "/etc/init.d/vps-ssh-keys", &sb, 0755) &&
			       guest_add_link(p, "/etc/rcS.d/S20vps-ssh-keys", "../init.d/vps-ssh-keys")
		       ? 0
		       : -ENOMEM;
}

/* A YAML double-quoted scalar (YAML 1.2, 7.3.1). */
static void add_yaml_str(struct strbuf *sb, const char *s)
{
	sb_addc(sb, '"');
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;

		if (c < 32 || c == 127)
			sb_addf(sb, "\\x%02x", c);
		else if (c == '"' || c == '\\')
			sb_addf(sb, "\\%c", c);
		else
			sb_addc(sb, (char)c);
	}
	sb_addc(sb, '"');
}

#define SEED "/var/lib/cloud/seed/nocloud-net/"

/* cloud-init's NoCloud, seed directory. The network is our files' business: cloud-init would write them
 * once more in its own words, which fail where the addresses are there already. */
static int cloud_seed(struct guest_plan *p)
{
	const struct vps_spec *s = p->in->spec;
	auto_strbuf meta = STRBUF_INIT, user = STRBUF_INIT, net = STRBUF_INIT, cfg = STRBUF_INIT;

	sb_addf(&meta, "instance-id: \"%s\"\nlocal-hostname: ", s->uuid);
	add_yaml_str(&meta, host_name(s));
	sb_addc(&meta, '\n');
	if (s->ssh_keys && s->ssh_keys[0]) {
		sb_add(&meta, "public-keys:\n");
		for (char **k = s->ssh_keys; *k; k++) {
			sb_add(&meta, "  - ");
			add_yaml_str(&meta, *k);
			sb_addc(&meta, '\n');
		}
	}
	sb_add(&user, s->user_data ? s->user_data : "#cloud-config\n");
	guest_net_v2(p, &net, "");
	/* its own default takes root the keys that the operator gave him */
	sb_add(&cfg, "datasource_list: [NoCloud, None]\nnetwork: {config: disabled}\ndisable_root: false\n");
	if (!guest_add(p, SEED "meta-data", &meta, 0600) || !guest_add(p, SEED "user-data", &user, 0600) ||
	    (p->net.has_nic && !guest_add(p, SEED "network-config", &net, 0600)) ||
	    !guest_add(p, "/etc/cloud/cloud.cfg.d/90_vps.cfg", &cfg, 0644))
		return -ENOMEM;
	return 0;
}

/* Without cloud-init a script still runs, once, at the end of the first boot. */
static int user_script(struct guest_plan *p, struct vps_err *err)
{
	const char *text = p->in->spec->user_data;
	auto_strbuf sb = STRBUF_INIT;

	if (!str_starts(text, "#!"))
		return vps_err_set(err, VPS_EUSAGE,
				   "user data: the image has no cloud-init, and without it only a script "
				   "(\"#!…\") can be run");
	if (p->facts->init != GUEST_INIT_SYSTEMD || !p->in->system)
		return vps_err_set(err, VPS_EUSAGE,
				   "user data: the image has neither cloud-init nor systemd to run it");
	sb_add(&sb, text);
	if (!guest_add(p, "/var/lib/vps/user-data", &sb, 0700))
		return -ENOMEM;
	return unit(p, "vps-user-data.service",
		    "[Unit]\n"
		    "Description=Run the user data given to this server at its creation, once\n"
		    "Wants=network-online.target\n"
		    "After=network-online.target\n"
		    "ConditionPathExists=!/var/lib/vps/user-data.done\n"
		    "\n"
		    "[Service]\n"
		    "Type=oneshot\n"
		    "RemainAfterExit=yes\n"
		    "ExecStartPre=/bin/sh -c \"umask 077; : >/var/lib/vps/user-data.done\"\n"
		    "ExecStart=/var/lib/vps/user-data\n"
		    "TimeoutStartSec=infinity\n"
		    "StandardOutput=journal+console\n"
		    "\n"
		    "[Install]\n"
		    "WantedBy=multi-user.target\n");
}

static int first_boot_files(struct guest_plan *p, struct vps_err *err)
{
	int r = machine_id(p);

	r = r < 0 ? r : root_keys(p);
	r = r < 0 ? r : copied_things(p);
	r = r < 0 ? r : ssh_host_keys(p);
	if (r < 0)
		return r;
	if (p->facts->cloud_init && p->in->system)
		return cloud_seed(p);
	return p->in->spec->user_data ? user_script(p, err) : 0;
}

int guestconf_plan(const struct guest_input *in, const struct guest_facts *facts,
		   struct guest_file **ret, size_t *ret_n, struct vps_err *err)
{
	struct guest_plan p = {.in = in, .facts = facts};
	int r = guest_net_init(&p, err);

	r = r < 0 ? r : name_files(&p);
	r = r < 0 ? r : guest_net_files(&p);
	if (r >= 0 && in->first_boot)
		r = first_boot_files(&p, err);
	free(p.net.addrs);
	if (r < 0) {
		guest_files_free(p.files, p.n);
		return vps_err_sys(err, r, "guest files");
	}
	*ret = p.files;
	*ret_n = p.n;
	return 0;
}
