/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a guest is started with, and the words between it and the host: the pure parts. */
#include "base_util.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/fs.h"
#include "images/images.h"
#include "runtime/guest/agent.h"
#include "runtime/guestcfg.h"
#include "runtime/guestconf.h"
#include "runtime/microvm/initramfs.h"
#include "runtime/microvm/modtree.h"

/* ---- records, frames ----------------------------------------------------------- */

static void test_records(void **state)
{
	static const char *const bad[] = {
		"k", "=1:x\n", "k=:x\n", "k=1x\n", "k=2:x\n", "k=1:x", "k=1:xy", "k=99999999:x\n",
		"k=-1:x\n", "0123456789012345678901234567890123456789=1:x\n", "k=0:", "k=1:\n",
	};
	auto_strbuf sb = STRBUF_INIT;
	struct rec r;
	uint64_t v;

	rec_add(&sb, "name", "a\nb=2:x");
	rec_add(&sb, "none", NULL);
	rec_addn(&sb, "bytes", "\0\1", 2);
	rec_add_u64(&sb, "number", UINT64_MAX);
	const char *p = sb.s;
	size_t len = sb.len;

	assert_int_equal(rec_next(&p, &len, &r), 1);
	assert_string_equal(r.key, "name");
	char *s = NULL;
	assert_int_equal(rec_str(&r, &s), 0);
	assert_string_equal(s, "a\nb=2:x");
	free(s);
	rec_done(&r);
	assert_int_equal(rec_next(&p, &len, &r), 1);
	assert_memory_equal(r.value, "\0\1", 2);
	s = NULL;
	assert_int_equal(rec_str(&r, &s), -EPROTO); /* a NUL in it */
	rec_done(&r);
	assert_int_equal(rec_next(&p, &len, &r), 1);
	assert_int_equal(rec_u64(&r, UINT64_MAX, &v), 0);
	assert_true(v == UINT64_MAX);
	assert_int_equal(rec_u64(&r, 5, &v), -EPROTO);
	rec_done(&r);
	assert_int_equal(rec_next(&p, &len, &r), 0);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		p = bad[i];
		len = strlen(bad[i]);
		assert_int_equal(rec_next(&p, &len, &r), -EPROTO);
	}
}

/* Give bytes as they come: r of the last step. */
static ssize_t feed(struct agent_in *in, const uint8_t *p, size_t n, struct agent_frame *f)
{
	in->buf = in->buf ? in->buf : malloc(sizeof(struct agent_head) + AGENT_DATA_MAX);
	for (;;) {
		ssize_t want = agent_in_next(in, f);

		if (want <= 0 || !n)
			return want;
		memcpy(in->buf + in->have, p++, 1);
		in->have++;
		n--;
	}
}

static void test_frames(void **state)
{
	static const struct { uint8_t bytes[12]; bool from_guest; int want; } t[] = {
		{{AGENT_EXIT, 0, 0, 0, 4, 0, 0, 0, 7}, true, 0},
		{{AGENT_EXIT, 0, 0, 0, 4, 0, 0, 0, 7}, false, -EPROTO}, /* not the host's to say */
		{{AGENT_EXIT, 0, 0, 0, 3, 0, 0, 0, 7}, true, -EPROTO},
		{{AGENT_EXIT, 1, 0, 0, 4, 0, 0, 0, 7}, true, -EPROTO}, /* no stream's */
		{{AGENT_EXIT, 0, 1, 0, 4, 0, 0, 0, 7}, true, -EPROTO},
		{{AGENT_DATA, 0, 0, 0, 1, 0, 0, 0, 7}, true, -EPROTO},
		{{AGENT_DATA, 0, 0, 0, 1, 0, 0, 0, 7}, false, 0},
		{{AGENT_DATA, 1, 0, 0, 1, 0, 0, 0, 7}, false, -EPROTO},
		{{AGENT_DATA, 2, 0, 0, 1, 0, 0, 0, 7}, true, 0},
		{{AGENT_DATA, 3, 0, 0, 1, 0, 0, 0, 7}, true, -EPROTO},
		{{AGENT_DATA, 1, 0, 0, 1, 0, 1, 0, 7}, true, -EPROTO}, /* 65537 */
		{{AGENT_DATA, 1, 0, 0, 0, 0, 1, 0, 7}, true, 65536 - 4},
		{{0, 0, 0, 0, 0, 0, 0, 0}, true, -EPROTO},
		{{99, 0, 0, 0, 0, 0, 0, 0}, true, -EPROTO},
		{{AGENT_STOP, 0, 0, 0, 0, 0, 0, 0}, true, -EPROTO},
		{{AGENT_STOP, 0, 0, 0, 0, 0, 0, 0}, false, 0},
	};

	for (size_t i = 0; i < ARRAY_LEN(t); i++) {
		auto_done(agent_in_done) struct agent_in in = AGENT_IN_INIT(t[i].from_guest);
		struct agent_frame f;

		assert_int_equal(feed(&in, t[i].bytes, sizeof(t[i].bytes), &f), t[i].want);
	}
}

static void test_stat_words(void **state)
{
	struct agent_stat s;
	const char text[] = "mem_total=4:4096\nsomething new=1:?\nuptime=2:61\n";

	assert_int_equal(agent_stat_parse(text, strlen(text), &s), 0);
	assert_true(s.mem_total == 4096 && s.uptime == 61 && s.load1 == 0);
	assert_int_equal(agent_stat_parse("uptime=2:-1\n", 12, &s), -EPROTO);
}

/* ---- the configuration --------------------------------------------------------- */

static void test_config(void **state)
{
	char *argv[] = {(char *)"/sbin/init", (char *)"a b\n", NULL};
	char *env[] = {(char *)"A=1", NULL}, *addrs[] = {(char *)"10.0.0.5/32", NULL};
	struct guest_file files[] = {
		{.path = (char *)"/etc/x", .data = (char *)"a\0b\n", .len = 4, .mode = 0600,
		 .only_ours = true, .optional = true},
		{.path = (char *)"/etc/l", .link_to = (char *)"../t", .mode = 0777},
		{.path = (char *)"/etc/gone", .remove = true},
	};
	const struct guest_cfg c = {
		.role = GUEST_COMMAND, .argv = argv, .env = env, .tty = true, .stop_signal = 37,
		.hostname = (char *)"web1", .nic = true, .addrs = addrs, .gw4 = (char *)"169.254.1.1",
		.mtu = 1450, .files = files, .n_files = 3};
	auto_strbuf sb = STRBUF_INIT;
	struct guest_cfg d;
	struct vps_err err = {0};

	assert_int_equal(guest_cfg_write(&c, &sb), 0);
	assert_int_equal(guest_cfg_parse(sb.s, sb.len, &d, &err), 0);
	assert_int_equal(d.role, GUEST_COMMAND);
	assert_string_equal(d.argv[1], "a b\n");
	assert_null(d.argv[2]);
	assert_true(d.tty && d.nic && d.stop_signal == 37 && d.mtu == 1450);
	assert_string_equal(d.gw4, "169.254.1.1");
	assert_null(d.gw6);
	assert_null(d.user);
	assert_int_equal(d.n_files, 3);
	assert_memory_equal(d.files[0].data, "a\0b\n", 4);
	assert_true(d.files[0].len == 4 && d.files[0].mode == 0600 && d.files[0].only_ours &&
		    d.files[0].optional && !d.files[0].append_line && !d.files[0].link_to);
	assert_string_equal(d.files[1].link_to, "../t");
	assert_true(d.files[2].remove);
	guest_cfg_done(&d);
	for (size_t n = 1; n < sb.len; n++) { /* cut anywhere: whole records, or refused */
		struct vps_err e = {0};

		if (guest_cfg_parse(sb.s, n, &d, &e) == 0)
			assert_int_equal(sb.s[n - 1], '\n');
		guest_cfg_done(&d);
	}
	assert_int_equal(guest_cfg_parse("mode=1:7\n", 9, &d, &err), -EPROTO); /* of no file */
	assert_int_equal(guest_cfg_parse("version=1:2\n", 12, &d, NULL), -EPROTO);
}

/* ---- archives ------------------------------------------------------------------ */

static char *read_entry(struct archive *a, struct archive_entry *e)
{
	size_t n = (size_t)archive_entry_size(e);
	char *p = calloc(1, n + 1);

	assert_int_equal(archive_read_data(a, p, n), (la_ssize_t)n);
	return p;
}

static struct archive *open_cpio(const void *p, size_t n)
{
	struct archive *a = archive_read_new();

	archive_read_support_format_cpio(a);
	assert_int_equal(archive_read_open_memory(a, p, n), ARCHIVE_OK);
	return a;
}

static void test_cpio(void **state)
{
	auto_done(cpio_done) struct cpio c = {0};
	struct archive_entry *e;

	cpio_dir(&c, "dev", 0755);
	cpio_node(&c, "dev/console", S_IFCHR | 0600, 5, 1);
	cpio_file(&c, "init", 0755, "hello", 5);
	cpio_file(&c, "empty", 0644, NULL, 0);
	assert_int_equal(cpio_end(&c), 0);
	assert_int_equal(c.out.len % 512, 0);

	struct archive *a = open_cpio(c.out.s, c.out.len);

	assert_int_equal(archive_read_next_header(a, &e), ARCHIVE_OK);
	assert_string_equal(archive_entry_pathname(e), "dev");
	assert_int_equal(archive_entry_mode(e), S_IFDIR | 0755);
	assert_int_equal(archive_read_next_header(a, &e), ARCHIVE_OK);
	assert_int_equal(archive_entry_mode(e), S_IFCHR | 0600);
	assert_int_equal(archive_entry_rdevmajor(e), 5);
	assert_int_equal(archive_entry_rdevminor(e), 1);
	assert_int_equal(archive_read_next_header(a, &e), ARCHIVE_OK);
	autofree char *text = read_entry(a, e);
	assert_string_equal(text, "hello");
	assert_int_equal(archive_entry_mode(e), S_IFREG | 0755);
	assert_int_equal(archive_read_next_header(a, &e), ARCHIVE_OK);
	assert_int_equal(archive_entry_size(e), 0);
	assert_int_equal(archive_read_next_header(a, &e), ARCHIVE_EOF);
	archive_read_free(a);
}

/* ---- modules ------------------------------------------------------------------- */

#define DEP                                                                                        \
	"kernel/lib/libcrc32c.ko.xz: kernel/c/crc-base.ko.xz\n"                                    \
	"kernel/c/crc-base.ko.xz:\n"                                                               \
	"kernel/fs/erofs/erofs.ko.xz: kernel/lib/libcrc32c.ko.xz kernel/lib/lz4.ko.xz\n"           \
	"kernel/lib/lz4.ko.xz:\n"                                                                  \
	"kernel/d/virtio-rng.ko.xz: kernel/d/virtio.ko.xz\n"                                       \
	"kernel/d/virtio.ko.xz:\n"

static void test_closure(void **state)
{
	static const char *const want[] = {"erofs", "virtio_rng", "ext4", "virtio", NULL};
	static const char *const missing[] = {"btrfs", NULL};
	static const char *const order[] = {
		"kernel/c/crc-base.ko.xz", "kernel/lib/libcrc32c.ko.xz", "kernel/lib/lz4.ko.xz",
		"kernel/fs/erofs/erofs.ko.xz", "kernel/d/virtio.ko.xz", "kernel/d/virtio-rng.ko.xz", NULL};
	auto_strv got = NULL;
	struct vps_err err = {0};

	assert_int_equal(modules_closure(DEP, "kernel/fs/ext4/ext4.ko\n", want, &got, &err), 0);
	for (size_t i = 0; order[i] || got[i]; i++)
		assert_string_equal(got[i], order[i]);
	assert_int_equal(modules_closure(DEP, "", missing, &got, &err), -VPS_EUNSUPPORTED);
	assert_non_null(strstr(err.msg, "btrfs"));
	/* a name that is only part of another's is another's */
	static const char *const part[] = {"ext", NULL};
	assert_int_equal(modules_closure(DEP, "kernel/fs/ext4/ext4.ko\n", part, &got, NULL),
			 -VPS_EUNSUPPORTED);
	/* a loop, a path out of the folder */
	static const char *const a[] = {"a", NULL};
	assert_int_equal(modules_closure("a.ko: b.ko\nb.ko: a.ko\n", "", a, &got, NULL), -ELOOP);
	assert_int_equal(modules_closure("../a.ko:\n", "", a, &got, NULL), -EINVAL);
	assert_int_equal(modules_closure("a.ko: c.ko\n", "", a, &got, NULL), -ENOENT);
}

/* One plain, one packed module; the second call finds the first's archive. */
static void test_initramfs(void **state)
{
	const struct test_dir *tmp = *state;
	struct vps_err err = {0};

	assert_int_equal(fs_mkdir_p(tmp->fd, "mod/k", 0755), 0);
	assert_int_equal(fs_mkdir_p(tmp->fd, "cache", 0755), 0);
	autoclose int mod = fs_open_dir(tmp->fd, "mod"), cache = fs_open_dir(tmp->fd, "cache");
	auto_strbuf builtin = STRBUF_INIT;
	for (size_t i = 0; guest_modules[i]; i++)
		sb_addf(&builtin, "kernel/%s.ko\n", guest_modules[i]);
	put_file(mod, "modules.builtin", sb_str(&builtin));
	put_file(mod, "modules.dep", "k/one.ko:\nk/two.ko.xz: k/one.ko\n");
	put_file(mod, "k/one.ko", "module one");
	put_file(mod, "k/two.ko", "module two");
	autofree char *cmd = str_fmt("xz %s/mod/k/two.ko", tmp->path);
	assert_int_equal(system(cmd), 0);
	put_file(tmp->fd, "guest", "the program");
	autoclose int program = openat(tmp->fd, "guest", O_RDONLY | O_CLOEXEC);
	char *extra[] = {(char *)"two", NULL};
	const struct initramfs_opts o = {.modules = mod, .program = program, .extra = extra};

	int fd = initramfs_open(cache, &o, &err);
	assert_true(fd >= 0);
	autofree char *data = NULL;
	size_t len;
	assert_int_equal(fs_read_fd(fd, 1 << 20, &data, &len), 0);
	close(fd);
	struct archive *a = open_cpio(data, len);
	struct archive_entry *e;
	unsigned seen = 0;
	while (archive_read_next_header(a, &e) == ARCHIVE_OK) {
		static const struct { const char *name, *text; } want[] = {
			{"init", "the program"}, {"modules/one.ko", "module one"},
			{"modules/two.ko", "module two"},
			{"vps/modules", "/modules/one.ko\n/modules/two.ko\n"}};

		for (size_t i = 0; i < ARRAY_LEN(want); i++) {
			if (!str_eq(archive_entry_pathname(e), want[i].name))
				continue;
			autofree char *text = read_entry(a, e);
			assert_string_equal(text, want[i].text);
			seen++;
		}
	}
	archive_read_free(a);
	assert_int_equal(seen, 4);

	auto_strv names = NULL;
	auto_strv again = NULL;
	assert_int_equal(fs_list(cache, ".", &names), 0);
	fd = initramfs_open(cache, &o, &err);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(fs_list(cache, ".", &again), 0);
	assert_int_equal(strv_len(names), 1);
	assert_int_equal(strv_len(again), 1);
	assert_string_equal(names[0], again[0]);
	put_file(mod, "k/one.ko", "module one, newer"); /* another archive */
	fd = initramfs_open(cache, &o, &err);
	assert_true(fd >= 0);
	close(fd);
	strv_free(again);
	again = NULL;
	assert_int_equal(fs_list(cache, ".", &again), 0);
	assert_int_equal(strv_len(again), 2);
	put_file(mod, "modules.builtin", "");
	assert_int_equal(initramfs_check(mod, NULL, &err), -VPS_EUNSUPPORTED);
}

static void test_config_archive(void **state)
{
	const struct guest_cfg c = {.hostname = (char *)"web1"};
	autoclose int fd = initramfs_config(&c, NULL);
	autofree char *data = NULL;
	size_t len;
	struct archive_entry *e;

	assert_true(fd >= 0);
	assert_int_equal(fs_read_fd(fd, 1 << 20, &data, &len), 0);
	assert_true(write(fd, "x", 1) < 0); /* sealed */
	struct archive *a = open_cpio(data, len);
	assert_int_equal(archive_read_next_header(a, &e), ARCHIVE_OK);
	assert_int_equal(archive_read_next_header(a, &e), ARCHIVE_OK);
	assert_string_equal(archive_entry_pathname(e), "vps/config");
	autofree char *text = read_entry(a, e);
	struct guest_cfg d;
	assert_int_equal(guest_cfg_parse(text, (size_t)archive_entry_size(e), &d, NULL), 0);
	assert_string_equal(d.hostname, "web1");
	guest_cfg_done(&d);
	archive_read_free(a);
}

/* ---- the kernel's modules as a disk ---------------------------------------------- */

static bool has_bytes(int fd, const char *text)
{
	autofree char *all = NULL;
	size_t len;

	lseek(fd, 0, SEEK_SET);
	assert_int_equal(fs_read_fd(fd, 8 << 20, &all, &len), 0);
	return memmem(all, len, text, strlen(text));
}

static void test_modtree(void **state)
{
	const struct test_dir *t = *state;
	char name[MODTREE_NAME], other[MODTREE_NAME];
	struct vps_err err = {0};
	struct stat st;
	const struct timespec past[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};

	if (access("/usr/bin/mkfs.erofs", X_OK) < 0)
		skip();
	assert_int_equal(fs_mkdir_p(t->fd, "m/kernel/net/ipv4", 0755), 0);
	assert_int_equal(fs_mkdir_p(t->fd, "m/kernel/sound/pci", 0755), 0);
	assert_int_equal(fs_mkdir_p(t->fd, "m/kernel/drivers/net/wireless", 0755), 0);
	assert_int_equal(fs_mkdir_p(t->fd, "cache", 0700), 0);
	assert_int_equal(fs_mkdir_p(t->fd, "instance", 0700), 0);
	put_file(t->fd, "m/modules.dep", "kernel/net/ipv4/ip_tables.ko:\n");
	put_file(t->fd, "m/kernel/net/ipv4/ip_tables.ko", "filter it");
	put_file(t->fd, "m/kernel/sound/pci/loud.ko", "make noise");
	put_file(t->fd, "m/kernel/drivers/net/wireless/wave.ko", "through the air");
	put_file(t->fd, "m/kernel/drivers/net/dummy.ko", "into the void");
	autoclose int m = openat(t->fd, "m", O_RDONLY | O_DIRECTORY), cache = openat(t->fd, "cache", O_RDONLY | O_DIRECTORY);
	autoclose int instance = openat(t->fd, "instance", O_RDONLY | O_DIRECTORY);

	int fd = modtree_open(cache, m, "6.1.0-1-test", name, &err);
	assert_true(fd >= 0);
	assert_true(modtree_is_name(name) && str_starts(name, "modules-6.1.0-1-test-"));
	assert_true(has_bytes(fd, "filter it") && has_bytes(fd, "into the void"));
	assert_false(has_bytes(fd, "make noise") || has_bytes(fd, "through the air"));
	close(fd);
	modtree_keep(cache, name, instance);
	assert_int_equal(fstatat(instance, "modules", &st, 0), 0);
	assert_int_equal(st.st_nlink, 2);
	fd = modtree_open(cache, m, "6.1.0-1-test", other, &err);
	assert_string_equal(name, other);
	close(fd);
	/* another host's of the same package is the same, whatever it is called there */
	char sum[DIGEST_LEN], release[MODTREE_NAME];
	assert_int_equal(fs_mkdir_p(t->fd, "cache2", 0700), 0);
	autoclose int cache2 = openat(t->fd, "cache2", O_RDONLY | O_DIRECTORY);
	fd = modtree_own(instance, name);
	assert_true(fd >= 0);
	assert_int_equal(img_erofs_digest(fd, sum, &err), 0);
	close(fd);
	assert_int_equal(modtree_same(cache2, sum, name, -1), -ENOENT);
	assert_int_equal(utimensat(t->fd, "m/modules.dep", past, 0), 0);
	fd = modtree_open(cache2, m, "6.1.0-1-test", other, &err);
	assert_true(fd >= 0 && !str_eq(name, other));
	close(fd);
	assert_int_equal(fs_mkdir_p(t->fd, "instance2", 0700), 0);
	autoclose int instance2 = openat(t->fd, "instance2", O_RDONLY | O_DIRECTORY);
	assert_int_equal(modtree_same(cache2, sum, name, -1), 0);
	assert_int_equal(modtree_reopen(cache2, instance2, name), -ENOENT);
	assert_int_equal(modtree_same(cache2, sum, name, instance2), 0);
	fd = modtree_reopen(cache2, instance2, name);
	assert_true(fd >= 0);
	close(fd);
	sum[10] = sum[10] == '0' ? '1' : '0';
	assert_int_equal(modtree_same(cache2, sum, name, -1), -ENOENT);
	assert_int_equal(modtree_same(cache2, sum, "../x", -1), -EPROTO);
	assert_int_equal(modtree_release(name, release), 0);
	assert_string_equal(release, "6.1.0-1-test");
	assert_int_equal(modtree_release("modules-.erofs", release), -EPROTO);
	/* another package of the same release: another one, and the old stays as long as an instance has it */
	assert_int_equal(utimensat(cache, name, past, 0), 0);
	put_file(t->fd, "m/modules.dep", "kernel/net/ipv4/ip_tables.ko:\n\n");
	fd = modtree_open(cache, m, "6.1.0-1-test", other, &err);
	assert_true(fd >= 0 && !str_eq(name, other));
	close(fd);
	fd = modtree_reopen(cache, -1, name);
	assert_true(fd >= 0);
	close(fd);
	modtree_keep(cache, NULL, instance);
	assert_int_equal(utimensat(cache, name, past, 0), 0);
	put_file(t->fd, "m/modules.dep", "kernel/net/ipv4/ip_tables.ko:\n\n\n");
	fd = modtree_open(cache, m, "6.1.0-1-test", other, &err);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(modtree_reopen(cache, -1, name), -ENOENT);
	assert_int_equal(modtree_reopen(cache, -1, "modules-../x.erofs"), -EPROTO);
	assert_int_equal(modtree_reopen(cache, -1, "passwd"), -EPROTO);
	/* a tree without depmod's files is none */
	assert_int_equal(unlinkat(t->fd, "m/modules.dep", 0), 0);
	assert_int_equal(modtree_open(cache, m, "6.1.0-1-test", other, &err), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_records),	  cmocka_unit_test(test_frames),
		cmocka_unit_test(test_stat_words), cmocka_unit_test(test_config),
		cmocka_unit_test(test_cpio),	  cmocka_unit_test(test_closure),
		dir_test(test_initramfs), dir_test(test_modtree), cmocka_unit_test(test_config_archive),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
