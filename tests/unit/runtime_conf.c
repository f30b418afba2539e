/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vps.conf, profiles, and how a host is found. */
#include "base_util.h"

#include "runtime/internal.h"

static void parse_fails(const char *text, const char *want)
{
	struct vps_conf c;
	struct vps_err err = {0};

	conf_init(&c);
	assert_int_equal(conf_parse(&c, text, "t.conf", &err), -VPS_ECONF);
	if (!strstr(err.msg, want))
		fail_msg("'%s' not in '%s'", want, err.msg);
	conf_done(&c);
}

static void test_conf(void **state)
{
	auto_done(conf_done) struct vps_conf c;
	struct vps_err err = {0};
	static const char text[] = "# a comment\n"
				   "  pool4 = 10.9.0.0/16\n"
				   "nat=no\n"
				   "dns = 9.9.9.9, 1.1.1.1\n"
				   "uid-base = 1000000\n"
				   "first-id=7\n"
				   "console-log-max = 64K\n"
				   "lock-timeout = 3s\n"
				   "default-image = \" debian:12 \"\n"
				   "\n[defaults]\n"
				   "memory = 256M\n"
				   "ram = 512M\n"
				   "autostart = yes\n";

	conf_init(&c);
	if (conf_parse(&c, text, "t.conf", &err) < 0)
		fail_msg("%s", err.msg);
	assert_string_equal(c.pool4, "10.9.0.0/16");
	assert_false(c.nat);
	assert_int_equal(strv_len(c.dns), 2);
	assert_string_equal(c.dns[1], "1.1.1.1");
	assert_int_equal(c.uid_base, 1000000);
	assert_int_equal(c.first_id, 7);
	assert_int_equal(c.console_log_max, 65536);
	assert_int_equal(c.lock_timeout_ms, 3000);
	assert_string_equal(c.default_image, " debian:12 ");
	assert_int_equal(strv_len(c.defaults), 3);
	assert_string_equal(c.defaults[1], "memory=512M");
	assert_int_equal(conf_parse(&c, "uid-base = 0x20000000\n", "t.conf", &err), 0);
	assert_int_equal(c.uid_base, 0x20000000);
}

static void test_conf_refuses(void **state)
{
	parse_fails("pool5 = x\n", "t.conf:1: unknown key 'pool5'");
	parse_fails("\n\nnat = perhaps\n", "t.conf:3: nat");
	parse_fails("nat\n", "not 'key = value'");
	parse_fails("[limits]\nmemory = 1G\n", "t.conf:2: unknown section");
	parse_fails("[defaults]\nmemory = lots\n", "t.conf:2: memory");
	parse_fails("[defaults]\nmemroy = 1G\n", "did you mean 'memory'");
	parse_fails("uid-base = 1000\n", "uid-base");
	parse_fails("uid-base = 1879048192\n", "uid-base");
	parse_fails("uid-base = 0x70000000\n", "uid-base");
	parse_fails("uid-base = 0x\n", "uid-base");
	parse_fails("uid-base = 0x2000000g\n", "uid-base");
	parse_fails("uid-base = 0x100000000\n", "uid-base");
	parse_fails("first-id = 0x65\n", "first-id");
	parse_fails("tag = Upper\n", "tag");
	parse_fails("tag = toolongatag\n", "tag");
	parse_fails("root = rel/ative\n", "absolute");
}

static void test_profile(void **state)
{
	auto_done(spec_done) struct vps_spec s;
	struct vps_err err = {0};

	spec_init(&s);
	assert_int_equal(profile_parse(&s, "memory = 1G\nip = auto\nip = 10.0.0.5\n", "p", &err), 0);
	assert_int_equal(s.memory, 1 << 30);
	assert_int_equal(strv_len(s.ips), 2);
	assert_int_equal(profile_parse(&s, "disk = big\n", "plan.conf", &err), -VPS_ECONF);
	assert_non_null(strstr(err.msg, "plan.conf:1: disk"));
}

static void test_host(void **state)
{
	struct test_dir *t = *state;
	autofree char *root = str_fmt("%s/root", t->path), *run = str_fmt("%s/run", t->path);
	autofree char *conf = str_fmt("%s/vps.conf", t->path);
	auto_done(vps_host_closep) struct vps_host *h = NULL, *h2 = NULL;
	auto_done(spec_done) struct vps_spec s;
	struct vps_err err = {0};
	struct vps_host_opts o = {.root = root, .run = run, .conf = conf};
	unsigned fds = count_fds();
	char first[16];

	/* a named file that is not there is an error; the default one may be missing */
	assert_true(vps_host_open(&o, &h, &err) < 0);
	vps_err_clear(&err);
	assert_int_equal(fs_write_rename(t->fd, "vps.conf", "[defaults]\npids = 77\n", 21, 0600), 0);
	assert_int_equal(fs_mkdir_p(t->fd, "profiles", 0700), 0);
	assert_int_equal(fs_write_rename(t->fd, "profiles/s.conf", "cpus=2\n", 7, 0600), 0);
	if (vps_host_open(&o, &h, &err) < 0)
		fail_msg("%s", err.msg);
	assert_true(fs_exists(t->fd, "root/instances") && fs_exists(t->fd, "run"));
	spec_init(&s);
	assert_int_equal(vps_spec_defaults(h, &s, &err), 0);
	assert_int_equal(vps_profile_load(h, "s", &s, &err), 0);
	assert_int_equal(s.pids, 77);
	assert_int_equal(s.cpus, 2000);
	assert_int_equal(vps_profile_load(h, "none", &s, &err), -VPS_ECONF);

	/* the tag tells roots apart, and is the same each time */
	assert_int_equal(strlen(vps_host_conf(h)->tag), 6);
	strcpy(first, vps_host_conf(h)->tag);
	h = vps_host_close(h);
	autofree char *other = str_fmt("%s/other", t->path);
	o.root = other;
	assert_int_equal(vps_host_open(&o, &h2, NULL), 0);
	assert_string_not_equal(vps_host_conf(h2)->tag, first);
	h2 = vps_host_close(h2);
	o.root = root;
	assert_int_equal(vps_host_open(&o, &h2, NULL), 0);
	assert_string_equal(vps_host_conf(h2)->tag, first);
	h2 = vps_host_close(h2);
	assert_int_equal(count_fds(), fds);
	o.root = "relative";
	assert_int_equal(vps_host_open(&o, &h, NULL), -VPS_EUSAGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_conf),
		cmocka_unit_test(test_conf_refuses),
		cmocka_unit_test(test_profile),
		dir_test(test_host),
	};

	return cmocka_run_group_tests_name("runtime/conf", tests, NULL, NULL);
}
