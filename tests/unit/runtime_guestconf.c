/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The guest's own files: what is found in a root, what is planned, what applying does. */
#include "tests/unit/base_util.h"

#include <errno.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "runtime/guestconf.h"

static int sub(int dir, const char *path)
{
	assert_int_equal(fs_mkdir_p(dir, path, 0755), 0);

	int fd = openat(dir, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static void program(int dir, const char *path)
{
	autofree char *copy = strdup(path);

	*strrchr(copy, '/') = '\0';
	assert_int_equal(fs_mkdir_p(dir, copy, 0755), 0);
	put_file(dir, path, "x");
	assert_int_equal(fchmodat(dir, path, 0755, 0), 0);
}

/* A Debian as it is: merged /usr, init a link across two directories. */
static void debian(int dir)
{
	fs_mkdir_p(dir, "usr/lib", 0755);
	fs_mkdir_p(dir, "usr/sbin", 0755);
	fs_mkdir_p(dir, "usr/bin", 0755);
	fs_mkdir_p(dir, "etc/ssh", 0755);
	assert_int_equal(symlinkat("usr/lib", dir, "lib"), 0);
	assert_int_equal(symlinkat("usr/sbin", dir, "sbin"), 0);
	assert_int_equal(symlinkat("usr/bin", dir, "bin"), 0);
	program(dir, "usr/lib/systemd/systemd");
	program(dir, "usr/lib/systemd/systemd-networkd");
	assert_int_equal(symlinkat("/lib/systemd/systemd", dir, "usr/sbin/init"), 0);
	program(dir, "usr/sbin/sshd");
	program(dir, "usr/bin/dash");
	assert_int_equal(symlinkat("dash", dir, "usr/bin/sh"), 0);
	put_file(dir, "etc/hosts", "127.0.0.1 localhost\n");
	put_file(dir, "etc/machine-id", "");
	put_file(dir, "etc/ssh/ssh_host_rsa_key", "secret");
}

static void test_probe_debian(void **state)
{
	struct test_dir *t = *state;
	struct guest_facts f;

	debian(t->fd);
	assert_int_equal(guestconf_probe(&t->fd, 1, &f), 0);
	assert_int_equal(f.init, GUEST_INIT_SYSTEMD);
	assert_true(f.sbin_init && f.systemd && f.networkd && f.sshd && f.ssh_host_keys);
	assert_true(f.etc_hosts && f.shell);
	assert_false(f.ifupdown || f.cloud_init || f.resolved || f.machine_id || f.network_manager);
	/* With ifupdown there, a networkd that is not enabled does nothing. */
	program(t->fd, "usr/sbin/ifup");
	assert_int_equal(guestconf_probe(&t->fd, 1, &f), 0);
	assert_true(f.ifupdown && !f.networkd);
	fs_mkdir_p(t->fd, "etc/systemd/system/multi-user.target.wants", 0755);
	assert_int_equal(symlinkat("/nowhere", t->fd,
				   "etc/systemd/system/multi-user.target.wants/systemd-networkd.service"),
			 0);
	assert_int_equal(symlinkat("../run/systemd/resolve/stub-resolv.conf", t->fd, "etc/resolv.conf"), 0);
	put_file(t->fd, "etc/machine-id", "0123\n");
	assert_int_equal(guestconf_probe(&t->fd, 1, &f), 0);
	assert_true(f.networkd && f.resolved && f.machine_id);
}

static void test_probe_busybox_and_nothing(void **state)
{
	struct test_dir *t = *state;
	struct guest_facts f;

	assert_int_equal(guestconf_probe(&t->fd, 1, &f), 0);
	assert_int_equal(f.init, GUEST_INIT_NONE);
	assert_false(f.shell || f.sbin_init);
	program(t->fd, "bin/busybox");
	fs_mkdir_p(t->fd, "sbin", 0755);
	assert_int_equal(symlinkat("/bin/busybox", t->fd, "sbin/init"), 0);
	assert_int_equal(symlinkat("busybox", t->fd, "bin/sh"), 0);
	assert_int_equal(guestconf_probe(&t->fd, 1, &f), 0);
	assert_int_equal(f.init, GUEST_INIT_BUSYBOX);
	assert_true(f.shell);
}

/* A hostile disk: loops, links to the host, a fifo. Nothing is followed out of it, nothing blocks. */
static void test_probe_hostile(void **state)
{
	struct test_dir *t = *state;
	struct guest_facts f;
	char up[300] = "";

	for (int i = 0; i < 40; i++)
		strcat(up, "../");
	strcat(up, "bin/sh");
	fs_mkdir_p(t->fd, "sbin", 0755);
	fs_mkdir_p(t->fd, "etc", 0755);
	fs_mkdir_p(t->fd, "bin", 0755);
	assert_int_equal(symlinkat("loop", t->fd, "loop"), 0);
	assert_int_equal(symlinkat("/loop/x", t->fd, "sbin/init"), 0);
	assert_int_equal(symlinkat(up, t->fd, "bin/sh"), 0); /* the host has one there */
	assert_int_equal(symlinkat("/proc/self/root/etc/hosts", t->fd, "etc/hosts"), 0);
	assert_int_equal(mkfifoat(t->fd, "etc/machine-id", 0644), 0);
	assert_int_equal(guestconf_probe(&t->fd, 1, &f), 0);
	assert_false(f.sbin_init || f.shell || f.etc_hosts || f.machine_id);
}

static void test_probe_layers(void **state)
{
	struct test_dir *t = *state;
	struct guest_facts f;
	autoclose int low = sub(t->fd, "low"), mid = sub(t->fd, "mid"), up = sub(t->fd, "up");
	int roots[] = {low, mid, up};

	/* The program below, the link to it above. */
	program(low, "usr/lib/systemd/systemd");
	fs_mkdir_p(mid, "sbin", 0755);
	assert_int_equal(symlinkat("../usr/lib/systemd/systemd", mid, "sbin/init"), 0);
	program(low, "usr/sbin/sshd");
	program(low, "bin/sh");
	fs_mkdir_p(low, "etc", 0755);
	put_file(low, "etc/hosts", "x");
	assert_int_equal(guestconf_probe(roots, 3, &f), 0);
	assert_int_equal(f.init, GUEST_INIT_SYSTEMD);
	assert_true(f.sshd && f.shell && f.etc_hosts);

	/* Whiteouts hide, of a file and of a directory; so does a file in a directory's place. */
	if (mknodat(mid, "etc", S_IFCHR, makedev(0, 0)) < 0) {
		print_message("no whiteouts here: %s\n", strerror(errno));
		skip();
	}
	fs_mkdir_p(up, "usr/sbin", 0755);
	assert_int_equal(mknodat(up, "usr/sbin/sshd", S_IFCHR, makedev(0, 0)), 0);
	put_file(up, "bin", "now a file");
	assert_int_equal(guestconf_probe(roots, 3, &f), 0);
	assert_false(f.sshd || f.shell || f.etc_hosts);
	assert_int_equal(f.init, GUEST_INIT_SYSTEMD);
	/* What is above a whiteout counts again. */
	fs_mkdir_p(up, "etc", 0755);
	put_file(up, "etc/hosts", "x");
	assert_int_equal(guestconf_probe(roots, 3, &f), 0);
	assert_true(f.etc_hosts);
}

static void test_probe_opaque(void **state)
{
	struct test_dir *t = *state;
	struct guest_facts f;
	autoclose int low = sub(t->fd, "low"), up = sub(t->fd, "up");
	int roots[] = {low, up};

	program(low, "usr/sbin/sshd");
	fs_mkdir_p(up, "usr", 0755);
	assert_int_equal(guestconf_probe(roots, 2, &f), 0);
	assert_true(f.sshd);

	autoclose int usr = sub(up, "usr");

	if (fsetxattr(usr, "trusted.overlay.opaque", "y", 1, 0) < 0) {
		print_message("no trusted xattrs here: %s\n", strerror(errno));
		skip();
	}
	assert_int_equal(guestconf_probe(roots, 2, &f), 0);
	assert_false(f.sshd);
}

/* ---- the plan ------------------------------------------------------------------ */

struct plan {
	struct vps_spec spec;
	struct guest_input in;
	struct guest_facts facts;
	struct guest_file *files;
	size_t n;
	struct vps_err err;
	int r;
};

static void plan_init(struct plan *p)
{
	memset(p, 0, sizeof(*p));
	spec_init(&p->spec);
	p->spec.name = strdup("web1");
	strcpy(p->spec.uuid, "01234567-89ab-cdef-0123-456789abcdef");
	p->in.spec = &p->spec;
	p->in.first_boot = p->in.system = true;
	p->facts = (struct guest_facts){.init = GUEST_INIT_SYSTEMD, .systemd = true, .networkd = true,
					.etc_hosts = true, .shell = true};
}

static void plan_done(struct plan *p)
{
	guest_files_free(p->files, p->n);
	spec_done(&p->spec);
}

static void plan_make(struct plan *p)
{
	guest_files_free(p->files, p->n);
	p->files = NULL;
	p->n = 0;
	p->r = guestconf_plan(&p->in, &p->facts, &p->files, &p->n, &p->err);
}

static const struct guest_file *file_of(const struct plan *p, const char *path)
{
	for (size_t i = 0; i < p->n; i++)
		if (str_eq(p->files[i].path, path))
			return &p->files[i];
	return NULL;
}

static const char *data_of(const struct plan *p, const char *path)
{
	const struct guest_file *f = file_of(p, path);

	assert_non_null(f);
	return f->data;
}

static char *addrs[] = {(char[]){"10.123.0.5/16"}, (char[]){"fd76:7073::5/64"}, NULL};
static char *dns[] = {(char[]){"9.9.9.9"}, (char[]){"2620:fe::fe"}, NULL};

static void test_plan_networkd_routed(void **state)
{
	auto_done(plan_done) struct plan p;

	plan_init(&p);
	p.in.addrs = addrs;
	p.in.dns = dns;
	plan_make(&p);
	assert_int_equal(p.r, 0);
	assert_string_equal(data_of(&p, "/etc/hostname"), "web1\n");
	assert_string_equal(data_of(&p, "/etc/systemd/network/10-vps-eth0.network"),
			    "# vps: written at each start; remove this line to keep your own\n"
			    "[Match]\nName=eth0\n\n[Network]\nKeepConfiguration=yes\nDHCP=no\n"
			    "IPv6AcceptRA=no\nLLDP=no\nDNS=9.9.9.9 2620:fe::fe\n"
			    "Address=10.123.0.5/32\nAddress=fd76:7073::5/128\n"
			    "\n[Route]\nGateway=169.254.1.1\nGatewayOnLink=yes\n"
			    "\n[Route]\nGateway=fe80::1\nGatewayOnLink=yes\n");
	assert_string_equal(data_of(&p, "/etc/resolv.conf"),
			    "# vps: written at each start; remove this line to keep your own\n"
			    "nameserver 9.9.9.9\nnameserver 2620:fe::fe\n");
	assert_string_equal(data_of(&p, "/etc/machine-id"), "0123456789abcdef0123456789abcdef\n");
	assert_null(file_of(&p, "/etc/network/interfaces"));
	assert_null(file_of(&p, "/etc/netplan/90-vps.yaml"));
	assert_false(file_of(&p, "/etc/resolv.conf")->only_ours);

	/* Later starts leave identities alone, and what the tenant took over. */
	p.in.first_boot = false;
	plan_make(&p);
	assert_null(file_of(&p, "/etc/hostname"));
	assert_null(file_of(&p, "/etc/machine-id"));
	assert_true(file_of(&p, "/etc/resolv.conf")->only_ours);
	for (size_t i = 0; i < p.n; i++)
		assert_true(p.files[i].optional);
}

static void test_plan_ifupdown(void **state)
{
	auto_done(plan_done) struct plan p;

	plan_init(&p);
	p.facts.networkd = false;
	p.facts.ifupdown = true;
	p.in.addrs = addrs;
	plan_make(&p);
	assert_string_equal(data_of(&p, "/etc/network/interfaces"),
			    "# vps: written at each start; remove this line to keep your own\n"
			    "auto lo\niface lo inet loopback\n\nsource /etc/network/interfaces.d/*\n"
			    "\nauto eth0\niface eth0 inet manual\n"
			    "\tup ip link set dev eth0 up\n"
			    "\tup ip addr replace 10.123.0.5/32 dev eth0\n"
			    "\tup ip addr replace fd76:7073::5/128 dev eth0 nodad\n"
			    "\tup ip route replace default via 169.254.1.1 dev eth0 onlink\n"
			    "\tup ip -6 route replace default via fe80::1 dev eth0\n");
	assert_null(file_of(&p, "/etc/resolv.conf")); /* no servers known */

	/* A bridge, without addresses: the guest asks. */
	p.spec.net = strdup("bridge=br0");
	p.in.addrs = NULL;
	plan_make(&p);
	assert_non_null(strstr(data_of(&p, "/etc/network/interfaces"), "iface eth0 inet dhcp\n"));
	p.in.addrs = addrs;
	p.spec.gateway = strdup("10.123.0.1");
	plan_make(&p);
	assert_non_null(strstr(data_of(&p, "/etc/network/interfaces"),
			       "up ip addr replace 10.123.0.5/16 dev eth0\n"));
	assert_non_null(strstr(data_of(&p, "/etc/network/interfaces"),
			       "up ip route replace default via 10.123.0.1 dev eth0\n"));
	assert_null(strstr(data_of(&p, "/etc/network/interfaces"), "fe80::1"));
	free(p.spec.net);
	p.spec.net = strdup("none");
	p.in.addrs = NULL;
	plan_make(&p);
	assert_null(strstr(data_of(&p, "/etc/network/interfaces"), "eth0"));
}

static void test_plan_resolved_and_others(void **state)
{
	auto_done(plan_done) struct plan p;

	plan_init(&p);
	p.facts.resolved = p.facts.network_manager = p.facts.netplan = true;
	p.in.addrs = addrs;
	p.in.dns = dns;
	plan_make(&p);
	assert_null(file_of(&p, "/etc/resolv.conf"));
	assert_non_null(strstr(data_of(&p, "/etc/systemd/resolved.conf.d/50-vps.conf"),
			       "[Resolve]\nDNS=9.9.9.9 2620:fe::fe\n"));
	assert_non_null(strstr(data_of(&p, "/etc/NetworkManager/conf.d/90-vps.conf"),
			       "unmanaged-devices=interface-name:eth0"));
	assert_int_equal(file_of(&p, "/etc/netplan/90-vps.yaml")->mode, 0600);
	assert_non_null(strstr(data_of(&p, "/etc/netplan/90-vps.yaml"), "network:\n  version: 2\n"));
}

static void test_plan_hostname(void **state)
{
	auto_done(plan_done) struct plan p;

	plan_init(&p);
	p.spec.hostname = strdup("www.example.org");
	p.facts.etc_hosts = false;
	p.in.first_boot = false;
	plan_make(&p);
	assert_string_equal(data_of(&p, "/etc/hostname"), "www.example.org\n");
	assert_true(file_of(&p, "/etc/hosts")->only_missing);
	assert_true(p.files[2].append_line);
	assert_string_equal(p.files[2].data, "127.0.1.1\twww.example.org www");
}

static void test_plan_ssh(void **state)
{
	auto_done(plan_done) struct plan p;
	const struct guest_file *f;

	plan_init(&p);
	strv_add(&p.spec.ssh_keys, "ssh-ed25519 AAAA one");
	strv_add(&p.spec.ssh_keys, "ssh-ed25519 BBBB two");
	p.facts.sshd = p.facts.ssh_host_keys = true;
	plan_make(&p);
	f = file_of(&p, "/root/.ssh/authorized_keys");
	assert_non_null(f);
	assert_int_equal(f->mode, 0600);
	assert_true(f->append_line);
	/* Host keys of an image are everybody's. */
	assert_true(file_of(&p, "/etc/ssh/ssh_host_rsa_key")->remove);
	assert_true(file_of(&p, "/etc/ssh/ssh_host_ed25519_key")->remove);
	assert_non_null(strstr(data_of(&p, "/etc/systemd/system/vps-ssh-keys.service"), "ssh-keygen -A"));
	assert_string_equal(
		file_of(&p, "/etc/systemd/system/multi-user.target.wants/vps-ssh-keys.service")->link_to,
		"../vps-ssh-keys.service");
	/* Never again: they are the tenant's now. */
	p.in.first_boot = false;
	plan_make(&p);
	assert_null(file_of(&p, "/etc/ssh/ssh_host_rsa_key"));
	assert_null(file_of(&p, "/root/.ssh/authorized_keys"));
}

static void test_plan_cloud_init(void **state)
{
	auto_done(plan_done) struct plan p;

	plan_init(&p);
	p.facts.cloud_init = true;
	p.in.addrs = addrs;
	p.in.dns = dns;
	strv_add(&p.spec.ssh_keys, "ssh-rsa AAAA \"q\"\ninject: true");
	plan_make(&p);
	assert_string_equal(data_of(&p, "/var/lib/cloud/seed/nocloud-net/meta-data"),
			    "instance-id: \"01234567-89ab-cdef-0123-456789abcdef\"\n"
			    "local-hostname: \"web1\"\n"
			    "public-keys:\n  - \"ssh-rsa AAAA \\\"q\\\"\\x0ainject: true\"\n");
	assert_string_equal(data_of(&p, "/var/lib/cloud/seed/nocloud-net/user-data"),
			    "#cloud-config\n");
	assert_string_equal(data_of(&p, "/var/lib/cloud/seed/nocloud-net/network-config"),
			    "version: 2\nethernets:\n  eth0:\n    dhcp4: false\n    dhcp6: false\n"
			    "    accept-ra: false\n    addresses:\n"
			    "      - \"10.123.0.5/32\"\n      - \"fd76:7073::5/128\"\n    routes:\n"
			    "      - {to: \"0.0.0.0/0\", via: \"169.254.1.1\", on-link: true}\n"
			    "      - {to: \"::/0\", via: \"fe80::1\", on-link: true}\n"
			    "    nameservers:\n      addresses: [\"9.9.9.9\", \"2620:fe::fe\"]\n");
	p.spec.user_data = strdup("#!/bin/sh\necho hi\n");
	plan_make(&p);
	assert_string_equal(data_of(&p, "/var/lib/cloud/seed/nocloud-net/user-data"), p.spec.user_data);
	assert_null(file_of(&p, "/var/lib/vps/user-data"));
}

static void test_plan_user_script(void **state)
{
	auto_done(plan_done) struct plan p;

	plan_init(&p);
	p.spec.user_data = strdup("#!/bin/sh\necho hi\n");
	plan_make(&p);
	assert_int_equal(p.r, 0);
	assert_int_equal(file_of(&p, "/var/lib/vps/user-data")->mode, 0700);
	assert_non_null(file_of(&p, "/etc/systemd/system/multi-user.target.wants/vps-user-data.service"));
	p.in.first_boot = false;
	plan_make(&p);
	assert_null(file_of(&p, "/var/lib/vps/user-data"));
	/* What cannot be done is said, not skipped. */
	p.in.first_boot = true;
	p.facts.init = GUEST_INIT_BUSYBOX;
	plan_make(&p);
	assert_int_equal(p.r, -VPS_EUSAGE);
	p.facts.init = GUEST_INIT_SYSTEMD;
	free(p.spec.user_data);
	p.spec.user_data = strdup("#cloud-config\n");
	vps_err_clear(&p.err);
	plan_make(&p);
	assert_int_equal(p.r, -VPS_EUSAGE);
	assert_non_null(strstr(p.err.msg, "cloud-init"));
}

static void test_plan_bad_address(void **state)
{
	auto_done(plan_done) struct plan p;
	char *bad[] = {(char[]){"10.0.0.5\nevil"}, NULL};

	plan_init(&p);
	p.in.addrs = bad;
	plan_make(&p);
	assert_int_equal(p.r, -VPS_EUSAGE);
}

/* ---- applying ------------------------------------------------------------------ */

static char txt[] = "text\n", line[] = "a line";

static int apply(struct test_dir *t, struct guest_file f)
{
	return guestconf_apply(t->fd, &f, 1, NULL);
}

static void test_apply_plain(void **state)
{
	struct test_dir *t = *state;
	struct guest_file f = {.path = (char[]){"/root/.ssh/x"}, .data = txt, .len = 5, .mode = 0600};
	struct stat st, again;

	assert_int_equal(apply(t, f), 0);
	assert_file(t->fd, "root/.ssh/x", "text\n");
	assert_int_equal(fstatat(t->fd, "root/.ssh", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0700); /* a private file's directory */
	assert_int_equal(fstatat(t->fd, "root", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
	/* Nothing to do is nothing done. */
	assert_int_equal(fstatat(t->fd, "root/.ssh/x", &st, 0), 0);
	assert_int_equal(apply(t, f), 0);
	assert_int_equal(fstatat(t->fd, "root/.ssh/x", &again, 0), 0);
	assert_int_equal(st.st_ino, again.st_ino);
}

static void test_apply_takeover(void **state)
{
	struct test_dir *t = *state;
	struct guest_file f = {.path = (char[]){"/f"}, .data = txt, .len = 5, .mode = 0644,
			       .only_ours = true};

	assert_int_equal(apply(t, f), 0);
	assert_file(t->fd, "f", "text\n");
	put_file(t->fd, "f", "mine\n");
	assert_int_equal(apply(t, f), 0);
	assert_file(t->fd, "f", "mine\n");
	put_file(t->fd, "f", GUEST_MARK "old\n");
	assert_int_equal(apply(t, f), 0);
	assert_file(t->fd, "f", "text\n");
	f.only_ours = false;
	f.only_missing = true;
	put_file(t->fd, "f", "mine\n");
	assert_int_equal(apply(t, f), 0);
	assert_file(t->fd, "f", "mine\n");
}

static void test_apply_line(void **state)
{
	struct test_dir *t = *state;
	struct guest_file f = {.path = (char[]){"/f"}, .data = line, .len = 6, .mode = 0600,
			       .append_line = true};
	struct stat st;

	put_file(t->fd, "f", "not a line\nno end");
	assert_int_equal(fchmodat(t->fd, "f", 0640, 0), 0);
	assert_int_equal(apply(t, f), 0);
	assert_file(t->fd, "f", "not a line\nno end\na line\n");
	assert_int_equal(apply(t, f), 0);
	assert_file(t->fd, "f", "not a line\nno end\na line\n");
	assert_int_equal(fstatat(t->fd, "f", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	assert_int_equal(unlinkat(t->fd, "f", 0), 0);
	assert_int_equal(apply(t, f), 0);
	assert_file(t->fd, "f", "a line\n");
}

static void test_apply_link_and_remove(void **state)
{
	struct test_dir *t = *state;
	struct guest_file f = {.path = (char[]){"/a/b/l"}, .link_to = (char[]){"../x"}, .mode = 0777};
	char buf[16] = "";

	assert_int_equal(apply(t, f), 0);
	assert_int_equal(apply(t, f), 0);
	assert_int_equal(readlinkat(t->fd, "a/b/l", buf, sizeof(buf)), 4);
	assert_string_equal(buf, "../x");
	assert_int_equal(apply(t, (struct guest_file){.path = f.path, .remove = true}), 0);
	assert_int_equal(apply(t, (struct guest_file){.path = f.path, .remove = true}), 0);
	assert_false(fs_exists(t->fd, "a/b/l"));
	assert_int_equal(apply(t, (struct guest_file){.path = (char[]){"/no/such/dir"}, .remove = true}), 0);
	assert_false(fs_exists(t->fd, "no"));
}

/* Links of the tenant lead nowhere but into its own root. */
static void test_apply_stays_inside(void **state)
{
	struct test_dir *t = *state;
	autoclose int root = sub(t->fd, "root"), out = sub(t->fd, "out");
	struct guest_file f = {.path = (char[]){"/etc/f"}, .data = txt, .len = 5, .mode = 0644};
	autofree char *abs = str_fmt("%s/out", t->path);

	assert_int_equal(symlinkat(abs, root, "etc"), 0);
	assert_int_not_equal(guestconf_apply(root, &f, 1, NULL), 0);
	f.optional = true;
	assert_int_equal(guestconf_apply(root, &f, 1, NULL), 0);
	assert_false(fs_exists(out, "f"));
	assert_int_equal(unlinkat(root, "etc", 0), 0);
	fs_mkdir_p(root, "etc", 0755);
	put_file(out, "f", "host's\n");
	abs[strlen(abs)] = '\0';
	autofree char *deep = str_fmt("%s/out/f", t->path);
	assert_int_equal(symlinkat(deep, root, "etc/f"), 0);
	assert_int_equal(guestconf_apply(root, &f, 1, NULL), 0);
	assert_file(out, "f", "host's\n");
	assert_file(root, "etc/f", "text\n"); /* the link is replaced */
	/* A directory in a file's place: at later starts no reason to fail. */
	assert_int_equal(unlinkat(root, "etc/f", 0), 0);
	fs_mkdir_p(root, "etc/f/x", 0755);
	assert_int_equal(guestconf_apply(root, &f, 1, NULL), 0);
	f.optional = false;
	assert_int_not_equal(guestconf_apply(root, &f, 1, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		dir_test(test_probe_debian),
		dir_test(test_probe_busybox_and_nothing),
		dir_test(test_probe_hostile),
		dir_test(test_probe_layers),
		dir_test(test_probe_opaque),
		cmocka_unit_test(test_plan_networkd_routed),
		cmocka_unit_test(test_plan_ifupdown),
		cmocka_unit_test(test_plan_resolved_and_others),
		cmocka_unit_test(test_plan_hostname),
		cmocka_unit_test(test_plan_ssh),
		cmocka_unit_test(test_plan_cloud_init),
		cmocka_unit_test(test_plan_user_script),
		cmocka_unit_test(test_plan_bad_address),
		dir_test(test_apply_plain),
		dir_test(test_apply_takeover),
		dir_test(test_apply_line),
		dir_test(test_apply_link_and_remove),
		dir_test(test_apply_stays_inside),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
