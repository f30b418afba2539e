/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The store under many hands and sudden deaths: ids disjoint, names unique, nothing left. */
#include "base_util.h"

#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "runtime/internal.h"
#include "runtime/monitor.h"

#define WORKERS 8
#define ROUNDS	125

static struct vps_host *open_host(struct test_dir *t)
{
	autofree char *root = str_fmt("%s/root", t->path), *run = str_fmt("%s/run", t->path);
	struct vps_host_opts o = {.root = root, .run = run, .lock_timeout_ms = 60000};
	struct vps_host *h = NULL;
	struct vps_err err = {0};

	if (vps_host_open(&o, &h, &err) < 0)
		fail_msg("%s", err.msg);
	return h;
}

/* What create does, without an image and a disk. */
static int make_one(struct vps_host *h, const char *name, unsigned *ret)
{
	auto_locked l = VPS_LOCKED_INIT;
	int r;

	spec_init(&l.spec);
	r = claim_id(h, 0, "test", &l, NULL);
	if (r < 0)
		return r;
	r = name ? claim_name(h, l.id, name, NULL) : 0;
	if (r == 0) {
		autofree char *own = str_fmt("v%u", l.id);
		auto_done(spec_done) struct vps_spec s;
		spec_init(&s);
		s.id = l.id;
		id_base_of(&h->conf, s.id, &s.id_base, NULL);
		str_set(&s.name, name ? name : own);
		str_set(&s.image, "none");
		r = name ? 0 : claim_name(h, l.id, own, NULL);
		r = r ?: store_write_spec(l.dir, &s, NULL);
	}
	*ret = l.id;
	if (r < 0)
		store_scrap(&l, NULL);
	return r;
}

static int delete_one(struct vps_host *h, unsigned id)
{
	char who[ID_STR];

	return vps_delete(h, id_str(id, who), false, NULL);
}

static unsigned count(struct test_dir *t, const char *dir)
{
	auto_strv names = NULL;

	assert_int_equal(fs_list(t->fd, dir, &names), 0);
	return (unsigned)strv_len(names);
}

static void nothing_left(struct test_dir *t)
{
	assert_int_equal(count(t, "root/instances"), 0);
	assert_int_equal(count(t, "root/names"), 0);
	if (fs_exists(t->fd, "root/leases"))
		assert_int_equal(count(t, "root/leases"), 0);
}

struct shared {
	atomic_uint held[8192]; /* by id: who has it */
	atomic_uint clashes, names[4], errors;
};

static void worker(struct test_dir *t, struct shared *sh, unsigned me)
{
	struct vps_host *h = open_host(t);

	for (unsigned i = 0; i < ROUNDS; i++) {
		char name[16];
		unsigned id, zero = 0, k = (me + i) % 4;
		bool contended = i % 5 == 0;
		snprintf(name, sizeof(name), "shared%u", k);
		int r = make_one(h, contended ? name : NULL, &id);
		if (contended && r == -VPS_EEXISTS)
			continue;
		if (r < 0) {
			atomic_fetch_add(&sh->errors, 1);
			continue;
		}
		if (!atomic_compare_exchange_strong(&sh->held[id % 8192], &zero, me))
			atomic_fetch_add(&sh->clashes, 1);
		if (contended && atomic_fetch_add(&sh->names[k], 1) != 0)
			atomic_fetch_add(&sh->clashes, 1);
		if (i % 16 == 0)
			nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);
		if (contended)
			atomic_fetch_sub(&sh->names[k], 1);
		atomic_store(&sh->held[id % 8192], 0);
		if (delete_one(h, id) < 0)
			atomic_fetch_add(&sh->errors, 1);
	}
	vps_host_close(h);
	_exit(0);
}

static void test_concurrent(void **state)
{
	struct test_dir *t = *state;
	struct shared *sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct vps_host *h = open_host(t);

	assert_true(sh != MAP_FAILED);
	for (unsigned w = 1; w <= WORKERS; w++)
		if (fork() == 0)
			worker(t, sh, w);
	for (unsigned w = 1; w <= WORKERS; w++) {
		int status;
		assert_true(wait(&status) > 0);
		assert_int_equal(status, 0);
	}
	assert_int_equal(sh->clashes, 0);
	assert_int_equal(sh->errors, 0);
	nothing_left(t);
	vps_host_close(h);
	munmap(sh, sizeof(*sh));
}

/* Ranges of user ids never touch, and end where systemd's own begin. */
static void test_ranges(void **state)
{
	struct vps_conf c;
	uint32_t a, b;

	conf_init(&c);
	assert_int_equal(id_base_of(&c, 101, &a, NULL), 0);
	assert_int_equal(id_base_of(&c, 102, &b, NULL), 0);
	assert_int_equal(b - a, 65536);
	assert_int_equal(id_base_of(&c, 20479, &a, NULL), 0);
	assert_true(a + 65535u < RUNTIME_UID_END);
	assert_int_equal(id_base_of(&c, 20480, &a, NULL), -VPS_ERESOURCE);
	assert_int_equal(id_base_of(&c, UINT32_MAX, &a, NULL), -VPS_ERESOURCE);
}

static void killed_child(struct test_dir *t)
{
	struct vps_host *h = open_host(t);

	for (;;) {
		unsigned id;
		if (make_one(h, "kept", &id) < 0)
			_exit(1);
		vps_rename(h, "kept", "moved", NULL);
		if (delete_one(h, id) < 0)
			_exit(2);
	}
}

/* SIGKILL at any moment of create, rename, delete: the next commands find it absent or whole. */
static void test_killed(void **state)
{
	struct test_dir *t = *state;
	struct vps_host *h = open_host(t);

	for (unsigned i = 0; i < 60; i++) {
		struct vps_info *list;
		size_t n;
		pid_t pid = fork();
		int status;
		if (pid == 0)
			killed_child(t);
		nanosleep(&(struct timespec){.tv_nsec = 3000000 + (long)i * 211000}, NULL);
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		assert_int_equal(vps_list(h, &list, &n, NULL), 0);
		assert_true(n <= 1);
		for (size_t k = 0; k < n; k++) {
			assert_int_equal(list[k].status, VPS_STOPPED);
			assert_int_equal(vps_delete(h, list[k].spec.name, false, NULL), 0);
		}
		vps_list_free(list, n);
		assert_int_equal(count(t, "root/instances"), 0);
		/* a claim that a killed rename left behind does not keep the name */
		unsigned id;
		assert_int_equal(make_one(h, "kept", &id), 0);
		assert_int_equal(delete_one(h, id), 0);
		assert_int_equal(make_one(h, "moved", &id), 0);
		assert_int_equal(delete_one(h, id), 0);
		nothing_left(t);
	}
	vps_host_close(h);
}

static void test_find(void **state)
{
	struct test_dir *t = *state;
	struct vps_host *h = open_host(t);
	struct vps_err err = {0};
	struct vps_info i;
	unsigned id, found;

	assert_int_equal(make_one(h, "web1", &id), 0);
	assert_int_equal(id, 101);
	assert_int_equal(store_find(h, "web1", &found, NULL), 0);
	assert_int_equal(found, id);
	assert_int_equal(store_find(h, "101", &found, NULL), 0);
	static const char *const bad[] = {"0101", "102", "web", "../names/web1", "", "..", "web1/"};
	for (size_t k = 0; k < ARRAY_LEN(bad); k++)
		assert_int_equal(store_find(h, bad[k], &found, NULL), -VPS_ENOVPS);
	assert_int_equal(vps_get(h, "web1", &i, NULL), 0);
	assert_int_equal(i.status, VPS_STOPPED);
	assert_int_equal(i.exit_code, -1);
	vps_info_done(&i);

	/* names are unique, and an id is not used again at once */
	assert_int_equal(make_one(h, "web1", &found), -VPS_EEXISTS);
	assert_int_equal(vps_rename(h, "web1", "web2", NULL), 0);
	assert_int_equal(store_find(h, "web1", &found, NULL), -VPS_ENOVPS);
	assert_int_equal(vps_get(h, "web2", &i, NULL), 0);
	vps_info_done(&i);
	assert_int_equal(delete_one(h, id), 0);
	assert_int_equal(make_one(h, NULL, &found), 0);
	assert_true(found > id);
	assert_int_equal(delete_one(h, found), 0);

	/* a definition that cannot be read is shown, and goes by force */
	assert_int_equal(make_one(h, "bad", &id), 0);
	autofree char *path = str_fmt("root/instances/%u/spec.json", id);
	assert_int_equal(fs_write_rename(t->fd, path, "{\"version\":1,\"x\":2}", 19, 0600), 0);
	assert_int_equal(vps_get(h, "bad", &i, NULL), 0);
	assert_int_equal(i.status, VPS_BROKEN);
	assert_non_null(strstr(i.last_error, "unknown key 'x'"));
	vps_info_done(&i);
	assert_int_equal(vps_delete(h, "bad", false, &err), -VPS_ECONF);
	assert_int_equal(vps_delete(h, "bad", true, NULL), 0);
	nothing_left(t);
	vps_host_close(h);
}

static void test_locked(void **state)
{
	struct test_dir *t = *state;
	struct vps_host *h = open_host(t);
	auto_locked l = VPS_LOCKED_INIT;
	struct vps_err err = {0};
	unsigned id;

	assert_int_equal(make_one(h, "a", &id), 0);
	assert_int_equal(vps_lock(h, "a", "snooze", &l, NULL), 0);
	h->lock_timeout_ms = 20;
	assert_int_equal(vps_delete(h, "a", false, &err), -VPS_ELOCKED);
	assert_non_null(strstr(err.msg, "vps snooze"));
	locked_done(&l);
	l.lock = l.dir = -1;
	assert_int_equal(vps_delete(h, "a", false, NULL), 0);
	vps_host_close(h);
}

/* The run state of a start that was killed, of another boot, of a process that is gone. */
static void test_stale_state(void **state)
{
	struct test_dir *t = *state;
	struct vps_host *h = open_host(t);

	for (size_t k = 0; k < 3; k++) {
		autofree char *text = NULL;
		struct vps_info i;
		unsigned id;
		assert_int_equal(make_one(h, "s", &id), 0);
		autoclose int run = store_make_run_dir(h, id);
		assert_true(run >= 0);
		text = k == 2 ? str_fmt("{\"phase\":\"running\",\"boot_id\":\"x\",\"pid\":1}")
		     : k == 1 ? str_fmt("{\"phase\":\"running\",\"boot_id\":\"%s\",\"pid\":1,"
					"\"start_time\":99999999}", proc_boot_id())
			      : str_fmt("{\"phase\":\"starting\",\"boot_id\":\"%s\",\"pid\":0}",
					proc_boot_id());
		assert_int_equal(fs_write_rename(run, "state.json", text, strlen(text), 0600), 0);
		assert_int_equal(vps_get(h, "s", &i, NULL), 0);
		assert_int_equal(i.status, VPS_STOPPED);
		vps_info_done(&i);
		auto_locked l = VPS_LOCKED_INIT;
		assert_int_equal(vps_lock(h, "s", "look", &l, NULL), 0);
		assert_false(fs_exists(run, "state.json"));
		locked_done(&l);
		l.lock = l.dir = -1;
		assert_int_equal(delete_one(h, id), 0);
		assert_int_equal(count(t, "run"), fs_exists(t->fd, "run/events") ? 1 : 0);
	}
	vps_host_close(h);
}

/* Half of them "run" (as we do). How long it takes: tests/bench/run scale. */
static void test_list_of_a_thousand(void **state)
{
	struct test_dir *t = *state;
	struct vps_host *h = open_host(t);
	struct vps_info *list;
	struct run_state s = {.phase = RUN_RUNNING, .started = 1};
	size_t n;

	assert_int_equal(proc_ident_of(getpid(), &s.init), 0);
	for (unsigned k = 0; k < 1000; k++) {
		autoclose int run = -1;
		unsigned id;
		assert_int_equal(make_one(h, NULL, &id), 0);
		if (k % 2)
			continue;
		run = store_make_run_dir(h, id);
		assert_int_equal(run_state_write(run, &s, NULL), 0);
	}
	assert_int_equal(vps_list(h, &list, &n, NULL), 0);
	assert_int_equal(n, 1000);
	assert_int_equal(list[0].status, VPS_RUNNING);
	assert_int_equal(list[1].status, VPS_STOPPED);
	vps_list_free(list, n);
	vps_host_close(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ranges), dir_test(test_find),
		dir_test(test_locked),	       dir_test(test_stale_state),
		dir_test(test_concurrent),     dir_test(test_killed),
		dir_test(test_list_of_a_thousand),
	};

	if (geteuid() != 0) {
		printf("skipped: needs root (cgroups, nftables)\n");
		return 77;
	}
	return cmocka_run_group_tests_name("runtime/store", tests, NULL, NULL);
}
