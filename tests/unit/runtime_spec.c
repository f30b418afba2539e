/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The definition: every field through JSON with hostile text, the option table, the checks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/str.h"
#include "runtime/spec.h"
#include "runtime/spec_fields.h"

/* newline, ESC, quote, backslash, DEL, bidi override, C1, an astral character, a lone blank */
#define HOSTILE "a\n\x1b[31m\"'\\\x7f\xe2\x80\xae\xc2\x9b\xf0\x9f\x92\xa9 \t/../%s"

/* Set every member by the table to something that is not its default. */
static void fill(struct vps_spec *s)
{
	unsigned n = 1;

	spec_init(s);
	for (const struct spec_field *f = spec_fields; f->key; f++, n++) {
		void *p = spec_member(s, f);
		switch (f->type) {
		case SF_STR:
			*(char **)p = str_fmt("%s%u", HOSTILE, n);
			break;
		case SF_STRV:
			assert_int_equal(strv_addf(p, "%s%u", HOSTILE, n), 0);
			assert_int_equal(strv_add(p, ""), 0);
			break;
		case SF_UUID:
			strcpy(p, "01234567-89ab-4cde-8f01-23456789abcd");
			break;
		case SF_UINT:
			*(unsigned *)p = UINT32_MAX - n;
			break;
		case SF_U64:
			*(uint64_t *)p = (uint64_t)INT64_MAX - n;
			break;
		case SF_LIMIT:
			*(uint64_t *)p = n % 2 ? SPEC_MAX : n;
			break;
		case SF_INT:
			*(int *)p = -(int)n;
			break;
		case SF_BOOL:
			*(bool *)p = true;
			break;
		case SF_ENUM:
			*(unsigned *)p = 1;
			break;
		case SF_MOUNTS:
			s->mounts = calloc(2, sizeof(*s->mounts));
			s->n_mounts = 2;
			for (int i = 0; i < 2; i++) {
				s->mounts[i].src = strdup(HOSTILE);
				s->mounts[i].dst = strdup("/x");
				s->mounts[i].ro = i;
			}
			break;
		case SF_IO_MAX:
			s->io_max = calloc(1, sizeof(*s->io_max));
			s->n_io_max = 1;
			s->io_max[0] = (struct spec_io_max){strdup(HOSTILE), 1, SPEC_UNSET,
							    SPEC_MAX, 4};
			break;
		}
	}
}

static int read_back(const char *text, struct vps_spec *ret, struct vps_err *err)
{
	auto_json j = NULL;
	int r = json_parse(text, strlen(text), &j, err);

	return r < 0 ? r : spec_from_json(j, ret, err);
}

static void test_json_round_trip(void **state)
{
	auto_done(spec_done) struct vps_spec a, b;
	auto_strbuf text = STRBUF_INIT, again = STRBUF_INIT;
	struct json_out o = JSON_OUT(&text, true), o2 = JSON_OUT(&again, true);
	struct vps_err err = {0};

	fill(&a);
	spec_init(&b);
	spec_to_json(&a, &o, NULL);
	if (read_back(sb_str(&text), &b, &err) < 0)
		fail_msg("%s", err.msg);
	assert_true(spec_equal(&a, &b));
	spec_to_json(&b, &o2, NULL);
	assert_string_equal(sb_str(&text), sb_str(&again));
	assert_string_equal(a.name, b.name);
	assert_string_equal(b.mounts[1].src, HOSTILE);
	assert_true(b.mounts[1].ro);
	assert_true(b.io_max[0].wbps == SPEC_UNSET && b.io_max[0].riops == SPEC_MAX);
	/* no member was lost: each is in the text */
	for (const struct spec_field *f = spec_fields; f->key; f++) {
		autofree char *key = str_fmt("\"%s\":", f->key);
		assert_non_null(strstr(sb_str(&text), key));
	}
}

static void test_copy_is_deep_and_equal(void **state)
{
	auto_done(spec_done) struct vps_spec a, b;

	fill(&a);
	assert_int_equal(spec_copy(&b, &a), 0);
	assert_true(spec_equal(&a, &b));
	b.labels[0][0] = 'X';
	assert_false(spec_equal(&a, &b));
	assert_ptr_not_equal(a.mounts, b.mounts);
}

/* An empty definition is small and comes back the same. */
static void test_unset_is_left_out(void **state)
{
	auto_done(spec_done) struct vps_spec a, b;
	auto_strbuf text = STRBUF_INIT;
	struct json_out o = JSON_OUT(&text, false);

	spec_init(&a);
	spec_init(&b);
	spec_to_json(&a, &o, NULL);
	assert_null(strstr(sb_str(&text), "memory"));
	assert_int_equal(read_back(sb_str(&text), &b, NULL), 0);
	assert_true(spec_equal(&a, &b));
	assert_true(b.memory == SPEC_UNSET);
}

static void test_json_refuses(void **state)
{
	static const char *const bad[] = {
		"{}", "[]", "null",
		"{\"version\":2}",
		"{\"version\":1,\"memroy\":1}",
		"{\"version\":1,\"memory\":-1}",
		"{\"version\":1,\"memory\":1.5}",
		"{\"version\":1,\"memory\":\"512M\"}",
		"{\"version\":1,\"name\":7}",
		"{\"version\":1,\"name\":\"a\\u0000b\"}",
		"{\"version\":1,\"name\":\"a\",\"name\":\"b\"}",
		"{\"version\":1,\"env\":\"A=b\"}",
		"{\"version\":1,\"env\":[1]}",
		"{\"version\":1,\"isolation\":\"magic\"}",
		"{\"version\":1,\"autostart\":1}",
		"{\"version\":1,\"id\":4294967296}",
		"{\"version\":1,\"uuid\":\"short\"}",
		"{\"version\":1,\"mounts\":[{\"src\":\"/a\"}]}",
		"{\"version\":1,\"mounts\":[{\"src\":\"/a\",\"dst\":\"/b\",\"x\":1}]}",
		"{\"version\":1,\"io_max\":[{\"rbps\":1}]}",
		"{\"version\":1} x",
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct vps_err err = {0};
		struct vps_spec s;
		spec_init(&s);
		if (read_back(bad[i], &s, &err) >= 0)
			fail_msg("accepted: %s", bad[i]);
		assert_true(err.code != 0 && err.msg[0]);
	}
}

static struct vps_spec *with(struct vps_spec *s, const char *option, const char *value)
{
	struct vps_err err = {0};

	if (spec_set(s, option, value, &err) < 0)
		fail_msg("%s=%s: %s", option, value ? value : "(none)", err.msg);
	return s;
}

static void refused(const char *option, const char *value)
{
	auto_done(spec_done) struct vps_spec s, clean;
	struct vps_err err = {0};

	spec_init(&s);
	spec_init(&clean);
	if (spec_set(&s, option, value, &err) >= 0)
		fail_msg("accepted: %s=%s", option, value);
	assert_int_equal(err.code, VPS_EUSAGE);
	assert_true(spec_equal(&s, &clean));
}

static void test_options_set(void **state)
{
	auto_done(spec_done) struct vps_spec s;

	spec_init(&s);
	with(&s, "memory", "512M");
	assert_int_equal(s.memory, 512 << 20);
	with(&s, "ram", "1G");
	assert_int_equal(s.memory, 1 << 30);
	with(&s, "memory", "max");
	assert_true(s.memory == SPEC_MAX);
	with(&s, "memory", "");
	assert_true(s.memory == SPEC_UNSET);
	with(&s, "cpus", "1.5");
	assert_int_equal(s.cpus, 1500);
	with(&s, "cpus", "0.05");
	assert_int_equal(s.cpus, 50);
	with(&s, "rate", "100M:20M");
	assert_int_equal(s.rate_in, 100000000);
	assert_int_equal(s.rate_out, 20000000);
	with(&s, "rate", "1G");
	assert_int_equal(s.rate_out, 1000000000);
	with(&s, "autostart", NULL);
	assert_true(s.autostart);
	with(&s, "onboot", "no");
	assert_false(s.autostart);
	with(&s, "boot-order", "-5");
	assert_int_equal(s.boot_order, -5);
	with(&s, "restart", "on-failure:3");
	assert_int_equal(s.restart, RESTART_ON_FAILURE);
	assert_int_equal(s.restart_max, 3);
	with(&s, "restart", "always");
	assert_int_equal(s.restart_max, 0);
	with(&s, "stop-timeout", "2m");
	assert_int_equal(s.stop_timeout_ms, 120000);
	with(&s, "init", "/sbin/init '--a b' c\\ d");
	assert_int_equal(strv_len(s.init), 3);
	assert_string_equal(s.init[1], "--a b");
	assert_string_equal(s.init[2], "c d");
	with(&s, "isolation", "vm");
	assert_int_equal(s.isolation, ISOLATION_VM);
}

static void test_options_lists(void **state)
{
	auto_done(spec_done) struct vps_spec s;

	spec_init(&s);
	with(with(&s, "env", "A=1"), "env", "B=x,y=2");
	with(&s, "env", "A=3");
	assert_int_equal(strv_len(s.env), 2);
	assert_string_equal(s.env[0], "B=x,y=2");
	assert_string_equal(s.env[1], "A=3");
	with(&s, "env", "-B");
	assert_int_equal(strv_len(s.env), 1);
	with(&s, "env", "-A");
	assert_null(s.env);
	with(&s, "ip", "auto,fd00::5/64");
	with(&s, "ip", "-auto");
	assert_int_equal(strv_len(s.ips), 1);
	with(&s, "ip", "");
	assert_null(s.ips);
	with(&s, "cap-add", "net_raw,CAP_SYS_TIME");
	assert_string_equal(s.cap_add[0], "CAP_NET_RAW");
	assert_string_equal(s.cap_add[1], "CAP_SYS_TIME");
	with(with(&s, "cap-add", "-net_raw"), "cap-add", "-sys_time");
	with(&s, "cap-add", "all");
	assert_string_equal(s.cap_add[0], "CAP_ALL");
	with(&s, "image", "x");
	assert_int_equal(spec_check(&s, NULL), 0);
	with(&s, "cap-drop", "ALL");
	assert_int_equal(spec_check(&s, NULL), -VPS_EUSAGE);
	with(with(&s, "cap-drop", ""), "cap-add", "");
	with(&s, "feature", "nesting,fuse");
	assert_true(spec_has_feature(&s, "fuse") && !spec_has_feature(&s, "keyctl"));
	with(with(&s, "mount", "/srv:/data:ro"), "mount", "/srv2:/data");
	assert_int_equal(s.n_mounts, 1);
	assert_false(s.mounts[0].ro);
	with(&s, "mount", "-/data");
	assert_int_equal(s.n_mounts, 0);
	with(&s, "io-max", "/dev/sda:rbps=20M,wiops=500");
	with(&s, "io-max", "8:0:rbps=max");
	assert_int_equal(s.n_io_max, 2);
	assert_int_equal(s.io_max[0].rbps, 20 << 20);
	assert_true(s.io_max[0].wbps == SPEC_UNSET && s.io_max[1].rbps == SPEC_MAX);
	with(&s, "io-max", "-8:0");
	assert_int_equal(s.n_io_max, 1);
	with(&s, "ssh-key", "ssh-ed25519 AAAAC3Nz me@there");
	assert_int_equal(strv_len(s.ssh_keys), 1);
}

static void test_options_refuse(void **state)
{
	static const char *const bad[][2] = {
		{"memory", "512Q"}, {"memory", "1K"}, {"memory", "-5"}, {"memory", "2E"},
		{"cpus", "0"}, {"cpus", "1.2345"}, {"cpus", "x"}, {"cpus", "."}, {"cpus", "1."},
		{"cpu-weight", "0"}, {"cpu-weight", "10001"}, {"io-weight", "0"},
		{"cpuset", "3-1"}, {"cpuset", "a"}, {"cpuset", "0,,1"}, {"pids", "0"},
		{"disk", "1M"}, {"inodes", "1"}, {"disk-backend", "zfs"},
		{"net", "bridge="}, {"net", "bridge=a/b"}, {"net", "bridge=1234567890123456"},
		{"net", "host"}, {"ip", "10.0.0"}, {"ip", "10.0.0.5/33"}, {"ip", "auto,x"},
		{"mac", "01:00:00:00:00:01"}, {"mac", "2:0:0:0:0:1"}, {"mac", "00:00:00:00:00:00"},
		{"publish", "80"}, {"publish", "0:80"}, {"publish", "70000:80"},
		{"publish", "80:80/sctp"}, {"publish", "1.2.3.4/8:80:80"}, {"publish", "[::1:80:80"},
		{"rate", "10"}, {"rate", "1M:2M:3M"}, {"rate", "fast"}, {"rate", "101G"}, {"rate", "7k"},
		{"pps", "0"}, {"conntrack", "63"}, {"conntrack", "1048577"},
		{"dns", "example.net"}, {"dns", "1.1.1.1/8"}, {"dns-search", "a..b"},
		{"dns-search", "-a"}, {"env", "A"}, {"env", "=x"}, {"label", "x"},
		{"user", "a b"}, {"user", ":0"}, {"workdir", "rel"}, {"workdir", "/a/../b"},
		{"hostname", "a_b"}, {"hostname", "-a"}, {"hostname", "a\nb"},
		{"stop-signal", "SIGFOO"}, {"stop-timeout", "soon"}, {"stop-timeout", "9d"},
		{"mount", "/a"}, {"mount", "a:/b"}, {"mount", "/a:/b:rx"}, {"mount", "/a:/../b"},
		{"device", "/etc/passwd"}, {"device", "/dev/../x"}, {"device", "/dev/kvm:x"},
		{"sysctl", "kernel.hostname=x"}, {"sysctl", "vm.swappiness=1"}, {"sysctl", "net.x"},
		{"sysctl", "net/../vm/x=1"}, {"sysctl", "network.x=1"},
		{"cap-add", "net raw"}, {"feature", "nest"}, {"seccomp", "/nonexistent"},
		{"io-max", "/dev/sda"}, {"io-max", "/dev/sda:foo=1"}, {"io-max", "x:rbps=1"},
		{"io-max", "/dev/sda:rbps=0"}, {"autostart", "maybe"}, {"boot-order", "x"},
		{"restart", "no:3"}, {"restart", "sometimes"}, {"restart", "always:x"},
		{"console", "vga"}, {"isolation", "chroot"}, {"init", "'open"},
		{"ssh-key", "/nonexistent"}, {"user-data", "/nonexistent"}, {"env", "-A"},
		{"mount", "-/x"}, {"memory", "512M\n"},
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		if (str_eq(bad[i][1], "/nonexistent")) {
			auto_done(spec_done) struct vps_spec s;
			spec_init(&s);
			assert_true(spec_set(&s, bad[i][0], bad[i][1], NULL) < 0);
			continue;
		}
		refused(bad[i][0], bad[i][1]);
	}
}

static void test_options_table(void **state)
{
	const char *group = NULL;
	auto_strv groups = NULL;

	for (const struct spec_option *o = spec_options(); o->name; o++) {
		assert_non_null(o->help);
		assert_non_null(o->how);
		assert_ptr_equal(spec_option_find(o->name), o);
		if (o->alias)
			assert_ptr_equal(spec_option_find(o->alias), o);
		assert_false(o->live && o->create_only);
		/* a group's options stand together */
		if (!str_eq(group, o->group)) {
			assert_false(groups && strv_has(groups, o->group));
			strv_add(&groups, o->group);
			group = o->group;
		}
		if (o->arg) {
			struct vps_spec s;
			spec_init(&s);
			assert_int_equal(spec_set(&s, o->name, NULL, NULL), -VPS_EUSAGE);
			/* an empty value always gives the default back */
			assert_int_equal(spec_set(&s, o->name, "", NULL), 0);
			spec_done(&s);
		}
	}
	assert_string_equal(spec_option_suggest("memroy"), "memory");
	assert_string_equal(spec_option_suggest("cpu-wieght"), "cpu-weight");
	assert_string_equal(spec_option_suggest("ipad"), "ip");
	assert_null(spec_option_suggest("frobnicate"));
}

static int check_with(const char *const *options, struct vps_err *err)
{
	auto_done(spec_done) struct vps_spec s;

	spec_init(&s);
	with(&s, "image", "debian:12");
	for (; *options; options += 2)
		with(&s, options[0], options[1]);
	return spec_check(&s, err);
}
#define CHECK(...) check_with((const char *const[]){__VA_ARGS__, NULL}, NULL)

static void test_check(void **state)
{
	assert_int_equal(CHECK("memory", "512M", "memory-low", "100M", "memory-min", "50M"), 0);
	assert_int_equal(CHECK("memory", "512M", "memory-low", "1G"), -VPS_EUSAGE);
	assert_int_equal(CHECK("memory-low", "100M", "memory-min", "200M"), -VPS_EUSAGE);
	assert_int_equal(CHECK("memory", "100M", "memory-high", "200M"), -VPS_EUSAGE);
	assert_int_equal(CHECK("memory", "100M", "memory-high", "max"), -VPS_EUSAGE);
	assert_int_equal(CHECK("ip", "none", "ip", "10.0.0.5"), -VPS_EUSAGE);
	assert_int_equal(CHECK("net", "none", "ip", "10.0.0.5"), -VPS_EUSAGE);
	assert_int_equal(CHECK("net", "none", "ip", "none"), 0);
	assert_int_equal(CHECK("net", "bridge=br0", "ip", "auto"), -VPS_EUSAGE);
	assert_int_equal(CHECK("net", "bridge=br0", "ip", "10.0.0.5/24", "gateway", "10.0.0.1"), 0);
	assert_int_equal(CHECK("gateway", "10.0.0.1"), -VPS_EUSAGE);
	assert_int_equal(CHECK("net", "bridge=br0", "publish", "80:80"), -VPS_EUSAGE);
	assert_int_equal(CHECK("init", "/sbin/init", "command", "x"), -VPS_EUSAGE);
	assert_int_equal(CHECK("mount", "/srv:/"), -VPS_EUSAGE);
	assert_int_equal(CHECK("user-data", ""), 0);
}

static void test_check_text_is_utf8(void **state)
{
	auto_done(spec_done) struct vps_spec s;

	spec_init(&s);
	with(&s, "image", "debian:12");
	with(&s, "env", "A=\xff\xfe");
	assert_int_equal(spec_check(&s, NULL), -VPS_EUSAGE);
	with(&s, "env", "");
	assert_int_equal(spec_check(&s, NULL), 0);
	str_set(&s.image, NULL);
	assert_int_equal(spec_check(&s, NULL), -VPS_EUSAGE);
}

static void test_names(void **state)
{
	static const char *const good[] = {"a", "web1", "0a", "a.b-c_d", "1-2"};
	static const char *const bad[] = {"", "101", "A", "-a", ".a", "a/b", "a b", "a\n", "\xc3\xa4",
		"a234567890123456789012345678901234567890123456789012345678901234"};

	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		assert_int_equal(spec_name_check(good[i], NULL), 0);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(spec_name_check(bad[i], NULL), -VPS_EUSAGE);
}

static void test_signals(void **state)
{
	assert_int_equal(spec_signal_parse("TERM"), SIGTERM);
	assert_int_equal(spec_signal_parse("sigterm"), SIGTERM);
	assert_int_equal(spec_signal_parse("9"), SIGKILL);
	assert_int_equal(spec_signal_parse("SIGRTMIN+3"), SIGRTMIN + 3);
	assert_int_equal(spec_signal_parse("RTMAX-1"), SIGRTMAX - 1);
	static const char *const bad[] = {"", "0", "SIG", "RTMIN+99", "RTMIN-1", "65", "-9", "FOO"};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(spec_signal_parse(bad[i]), -EINVAL);
}

/* A message about an operator's slip must not carry bytes that act on his terminal. */
static void test_messages_are_escaped(void **state)
{
	struct vps_spec s;
	struct vps_err err = {0};

	spec_init(&s);
	assert_true(spec_set(&s, "hostname", "\x1b]0;x\x07", &err) < 0);
	assert_null(strchr(err.msg, 0x1b));
	vps_err_clear(&err);
	assert_true(spec_set(&s, "\x1b[2J", "x", &err) < 0);
	assert_null(strchr(err.msg, 0x1b));
	vps_err_clear(&err);
	assert_true(spec_set(&s, "memroy", "1G", &err) < 0);
	assert_non_null(strstr(err.msg, "did you mean 'memory'"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_json_round_trip),
		cmocka_unit_test(test_copy_is_deep_and_equal),
		cmocka_unit_test(test_unset_is_left_out),
		cmocka_unit_test(test_json_refuses),
		cmocka_unit_test(test_options_set),
		cmocka_unit_test(test_options_lists),
		cmocka_unit_test(test_options_refuse),
		cmocka_unit_test(test_options_table),
		cmocka_unit_test(test_check),
		cmocka_unit_test(test_check_text_is_utf8),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_signals),
		cmocka_unit_test(test_messages_are_escaped),
	};

	return cmocka_run_group_tests_name("runtime/spec", tests, NULL, NULL);
}
