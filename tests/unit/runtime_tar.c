/* SPDX-License-Identifier: GPL-2.0-or-later */
/* cp's streams: there and back, against GNU tar both ways, and hostile ones. */
#include "base_util.h"

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/tar.h"

static int sh(struct test_dir *t, const char *script)
{
	autofree char *cmd = str_fmt("cd '%s' && { %s; }", t->path, script);

	return system(cmd);
}

static int stream_open(struct test_dir *t, const char *name, int flags)
{
	int fd = openat(t->fd, name, flags | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	return fd;
}

static int unpack(struct test_dir *t, const char *stream, const char *as, bool host,
		  struct vps_err *err)
{
	autoclose int in = stream_open(t, stream, O_RDONLY);
	autoclose int out = fs_open_dir(t->fd, "out");
	struct tar_unpack_opts o = {.as = as, .host = host, .uid = -1, .gid = -1};

	assert_true(out >= 0);
	return tar_unpack(out, &o, in, err);
}

static void pack(struct test_dir *t, const char *name, const char *as, const char *stream)
{
	autoclose int out = stream_open(t, stream, O_WRONLY | O_CREAT | O_TRUNC);
	struct vps_err err = {0};

	if (tar_pack(t->fd, name, as, out, &err) < 0)
		fail_msg("%s", err.msg);
}

#define MAKE_TREE                                                                                  \
	"mkdir -p in/d/e out && echo hello >in/f && ln in/f in/hard && ln -s f in/soft && "        \
	"ln -s ../f in/d/up && mkfifo in/p && chmod 4755 in/f && chmod 555 in/d/e && "             \
	"head -c 200000 /dev/urandom >in/d/big && : >in/empty && "                                 \
	"n=$(printf 'x%.0s' $(seq 200)) && mkdir -p in/$n/$n && echo deep >in/$n/$n/$n && "        \
	"ln -s $n/$n/$n in/longlink && printf w >\"$(printf 'in/a\\nb \\033\\377')\" && "          \
	"touch -d @1000000000 in/empty in/d"

static void test_round_trip(void **state)
{
	struct test_dir *t = *state;

	assert_int_equal(sh(t, MAKE_TREE), 0);
	pack(t, "in", "in", "s.tar");
	assert_int_equal(unpack(t, "s.tar", NULL, false, NULL), 0);
	assert_int_equal(sh(t, "rm in/p && diff -r --no-dereference -x p in out/in"), 0);
	assert_int_equal(sh(t, "test \"$(stat -c '%a %Y' in/f in/d/e in/d in/empty)\" = "
			       "\"$(cd out; stat -c '%a %Y' in/f in/d/e in/d in/empty)\""), 0);
	assert_int_equal(sh(t, "test $(stat -c %h out/in/f) = 2 && test -p out/in/p"), 0);
	assert_int_equal(sh(t, "test \"$(readlink out/in/longlink)\" = \"$(readlink in/longlink)\""), 0);
}

static void test_gnu_reads_ours(void **state)
{
	struct test_dir *t = *state;

	assert_int_equal(sh(t, MAKE_TREE), 0);
	pack(t, "in", ".", "s.tar");
	assert_int_equal(sh(t, "mkdir g && tar -xpf s.tar -C g && diff -r --no-dereference -x p in g"), 0);
}

static void test_ours_reads_gnu(void **state)
{
	struct test_dir *t = *state;

	assert_int_equal(sh(t, MAKE_TREE), 0);
	static const char *const formats[] = {"gnu", "pax", "posix", "v7", "ustar"};
	for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
		bool small = i > 2; /* no long names there */
		autofree char *cmd = str_fmt("rm -rf out; mkdir out; %s tar --format=%s -cf g.tar in",
					     small ? "rm -rf in/x* in/longlink in/p;" : "", formats[i]);
		struct vps_err err = {0};
		assert_int_equal(sh(t, cmd), 0);
		if (unpack(t, "g.tar", "new", false, &err) != 0)
			fail_msg("%s: %s", formats[i], err.msg);
		assert_int_equal(sh(t, "diff -r --no-dereference -x p in out/new"), 0);
	}
}

/* A canary outside; whatever the stream says, it stays and nothing appears beside it. */
static void hostile(struct test_dir *t, const char *make, bool host, bool refused)
{
	struct vps_err err = {0};
	int r;

	assert_int_equal(sh(t, "rm -rf out outside w h.tar; mkdir out outside w; echo safe >outside/c; "
			       "chmod 644 outside/c"), 0);
	if (sh(t, make) != 0)
		fail_msg("script: %s", make);
	r = unpack(t, "h.tar", NULL, host, &err);
	if (refused && r >= 0)
		fail_msg("accepted: %s", make);
	assert_int_equal(sh(t, "test \"$(cat outside/c)\" = safe && test $(ls -A outside | wc -l) = 1 && "
			       "test $(stat -c %a outside/c) = 644 && test $(stat -c %h outside/c) = 1"), 0);
}

static void test_hostile(void **state)
{
	struct test_dir *t = *state;

	/* '..' in a name */
	hostile(t, "echo evil >x; tar -cPf h.tar --transform 's,x,../outside/c,' x", true, true);
	hostile(t, "echo evil >x; tar -cPf h.tar --transform 's,x,a/../../outside/c,' x", true, true);
	/* an absolute name lands below */
	hostile(t, "echo evil >x; tar -cPf h.tar --transform \"s,x,$PWD/outside/c,\" x", true, false);
	/* through a link that came before */
	hostile(t, "mkdir w/t && ln -s ../../outside w/t/l && tar -C w -cf h.tar t/l && "
		   "mkdir v && mkdir -p v/t/l && echo evil >v/t/l/c && tar -C v -rf h.tar t/l/c; rm -r v",
		true, false);
	hostile(t, "mkdir w/t && ln -s $PWD/outside w/t/l && tar -C w -cf h.tar t/l && "
		   "mkdir -p v/t/l && echo evil >v/t/l/c && tar -C v -rf h.tar t/l/c; rm -r v", true, false);
	/* a file over a link */
	hostile(t, "mkdir w/t && ln -s d w/t/l && ln -s ../../outside/c w/t/d && tar -C w -cf h.tar t && "
		   "mkdir -p v/t && echo evil >v/t/d && tar -C v -rf h.tar t/d; rm -r v", true, false);
	/* a hard link to what is outside */
	hostile(t, "mkdir w/t && echo a >w/t/a && ln w/t/a w/t/b && tar -C w -cPf h.tar "
		   "--transform 's,t/a,../outside/c,RSh' t/a t/b", true, true);
	/* chained links, and a link moved up by a hard link */
	hostile(t, "mkdir -p w/t/a/b && ln -s ../.. w/t/a/b/l && ln -s a/b/l/../.. w/t/m && "
		   "tar -C w -cf h.tar t/a t/m && mkdir -p v/t/m/outside && echo evil >v/t/m/outside/c && "
		   "tar -C v -rf h.tar t/m/outside/c; rm -r v", true, false);
	assert_int_equal(sh(t, "test \"$(readlink out/t/m)\" = a/b/l/../.."), 0);
	hostile(t, "mkdir -p w/t/a/b && ln -s ../../x w/t/a/b/l && ln w/t/a/b/l w/t/h && "
		   "tar -C w -cf h.tar t/a t/h", true, false);
	assert_int_equal(sh(t, "test -L out/t/a/b/l && test \"$(readlink out/t/h)\" = ../../x"), 0);
	/* kept as they are, and replaced, not written through, by what comes later */
	hostile(t, "mkdir w/t && ln -s $PWD/outside/c w/t/abs && ln -s ../../outside/c w/t/up && "
		   "ln -s nowhere w/t/gone && tar -C w -cf h.tar t", true, false);
	assert_int_equal(sh(t, "test \"$(readlink out/t/abs)\" = $PWD/outside/c && "
			       "test \"$(readlink out/t/up)\" = ../../outside/c && "
			       "test \"$(readlink out/t/gone)\" = nowhere"), 0);
	assert_int_equal(sh(t, "mkdir -p v/t && echo new >v/t/abs && chmod 600 v/t/abs && "
			       "tar -C v -cf h.tar t; rm -r v"), 0);
	assert_int_equal(unpack(t, "h.tar", NULL, true, NULL), 0);
	assert_int_equal(sh(t, "test ! -L out/t/abs && test \"$(cat out/t/abs outside/c)\" = "
			       "\"$(echo new; echo safe)\""), 0);
	/* set-id bits and owners stay behind; device nodes too */
	hostile(t, "mkdir w/t && echo x >w/t/s && chown 1234:1234 w/t/s && chmod 6755 w/t/s && "
		   "mknod w/t/n c 1 3 && tar -C w -cf h.tar t", true, false);
	assert_int_equal(sh(t, "test \"$(stat -c '%a %u' out/t/s)\" = \"755 $(id -u)\" && "
			       "test ! -e out/t/n"), 0);
}

static void test_broken_streams(void **state)
{
	struct test_dir *t = *state;
	static const char *const bad[] = {
		": >h.tar",
		"echo no tar at all >h.tar",
		"head -c 5000 /dev/urandom >h.tar",
		"head -c 100000 /dev/zero >x; tar -cf h.tar x; truncate -s 50000 h.tar",
		"tar --format=gnu -cf h.tar w; printf '\\377' | dd of=h.tar bs=1 seek=124 conv=notrunc 2>/dev/null",
		"n=$(printf 'y%.0s' $(seq 120)); : >w/$n; tar --format=pax -cf h.tar w/$n; "
		"printf 9 | dd of=h.tar bs=1 seek=512 conv=notrunc 2>/dev/null",
		"truncate -s 1M x; echo a >>x; tar --format=gnu -S -cf h.tar x",
		"truncate -s 1M x; echo a >>x; tar --format=pax -S -cf h.tar x",
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		hostile(t, bad[i], true, true);
}

/* One tree becomes equal to another; what was equal is not touched. */
static void test_sync(void **state)
{
	struct test_dir *t = *state;
	struct vps_err err = {0};
	struct stat before, after;

	assert_int_equal(sh(t, MAKE_TREE), 0);
	assert_int_equal(sh(t, "cp -a in to && setfattr -n user.a -v x in/d/big 2>/dev/null; "
			       /* other bytes at the same size and time, in the second chunk */
			       "cp -a in/d/big in/big2 && cp -a in/big2 to/big2 && "
			       "printf X | dd of=to/big2 bs=1 seek=150000 conv=notrunc status=none && "
			       "touch -r in/big2 to/big2 && "
			       "truncate -s 50M in/hole && printf end >>in/hole && "
			       "echo more >in/new && mkdir in/newdir && echo n >in/newdir/n && "
			       "rm -r to/d/e && mkdir -p to/gone/deep/er && echo g >to/gone/deep/er/g && "
			       "rm to/soft && mkdir to/soft && echo s >to/soft/s && "
			       "rm to/p && echo p >to/p && chmod 600 to/empty && rm in/longlink && "
			       "ln -sfn /etc to/d/up && rm to/hard && cp to/f to/hard && "
			       "touch -d @5 in/f to/f to/hard"),
			 0);
	assert_int_equal(fstatat(t->fd, "to/d/big", &before, 0), 0);
	{
		autoclose int in = fs_open_dir(t->fd, "in");
		autoclose int out = stream_open(t, "s.tar", O_WRONLY | O_CREAT | O_TRUNC);

		if (tar_pack_tree(in, out, &err) < 0)
			fail_msg("%s", err.msg);
	}
	{
		autoclose int to = fs_open_dir(t->fd, "to");
		autoclose int stream = stream_open(t, "s.tar", O_RDONLY);

		if (tar_sync(to, stream, &err) != 0)
			fail_msg("%s", err.msg);
	}
	assert_int_equal(sh(t, "diff -r -x p --no-dereference in to"), 0);
	assert_int_equal(sh(t, "cd in && find . ! -name . -printf '%p %y %m %U %G %l %n\\n' | sort >../a && cd ../to && "
			       "find . ! -name . -printf '%p %y %m %U %G %l %n\\n' | sort >../b && cd .. && diff a b"), 0);
	assert_int_equal(sh(t, "[ $(stat -c %b to/hole) -lt 1000 ] && [ $(stat -c %Y to/f) = 5 ]"), 0);
	assert_int_equal(fstatat(t->fd, "to/d/big", &after, 0), 0);
	assert_int_equal(before.st_ino, after.st_ino);
	assert_int_equal(sh(t, "[ \"$(getfattr --absolute-names -d in/d/big | tail -n+2)\" = "
			       "\"$(getfattr --absolute-names -d to/d/big | tail -n+2)\" ]"), 0);
	/* Once more: nothing is left to do, and nothing is done. */
	assert_int_equal(sh(t, "find to -printf '%p %i %C@\\n' | sort >a"), 0);
	{
		autoclose int to = fs_open_dir(t->fd, "to");
		autoclose int stream = stream_open(t, "s.tar", O_RDONLY);

		assert_int_equal(tar_sync(to, stream, NULL), 0);
	}
	assert_int_equal(sh(t, "find to -printf '%p %i %C@\\n' | sort >b && diff a b"), 0);
}

/* Links in the stream lead nowhere. */
static void test_sync_hostile(void **state)
{
	struct test_dir *t = *state;

	assert_int_equal(sh(t, "mkdir to canary && echo c >canary/c && "
			       "mkdir in && ln -s ../canary in/a && tar -cf s.tar -C in ./a && rm in/a && "
			       "mkdir in/a && echo evil >in/a/c && tar -rf s.tar -C in ./a/c"), 0);
	autoclose int to = fs_open_dir(t->fd, "to");
	autoclose int stream = stream_open(t, "s.tar", O_RDONLY);

	assert_true(tar_sync(to, stream, NULL) < 0);
	assert_int_equal(sh(t, "[ \"$(cat canary/c)\" = c ]"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		dir_test(test_round_trip), dir_test(test_gnu_reads_ours),
		dir_test(test_ours_reads_gnu), dir_test(test_hostile),
		dir_test(test_broken_streams), dir_test(test_sync),
		dir_test(test_sync_hostile),
	};

	if (geteuid() != 0) {
		printf("skipped: needs root (owners, device nodes)\n");
		return 77;
	}
	return cmocka_run_group_tests_name("runtime/tar", tests, NULL, NULL);
}
