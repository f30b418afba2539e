/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A machine that waits in files: its snapshot, written by vps-vmm, and what it has to be restored as.
 *
 *   machine            memory, CPUs, the image and the modules that its kernel has mounted
 *   machine.snapshot   all of it, or all but the memory
 *   memory.1, ...      the memory in rounds of pre-copy (vmm/rounds.h), no file of which is changed once it is written
 *   modules            in front of a way to another host: those modules
 *
 * The pre-copy lives as long as the connection that asked for it: hold->fd of the caller's vps_hold.
 */
#include "runtime/microvm/microvm.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/sys.h"
#include "runtime/guest/agent.h"

#define SNAPSHOT    "machine.snapshot"
#define SIZE	    "machine"
#define RECORDS_MAX 4096
#define MODULES	    "vm-modules" /* in the run directory: the name of the running machine's */
#define IMAGE	    "vm-image"	 /* and the digest of its image's EROFS */
#define ASK_MS	    5000
/* All of its memory goes to a disk. */
#define SNAPSHOT_MS 1800000
/* A pre-copy of a migration that was killed ends, a part of the memory later. */
#define BUSY_TRIES  100
#define BUSY_MS	    50

/* Of the running machine: their name and digest, which is computed once. 1; 0: it has none. */
static int modules_of(const struct vps_live *l, char name[MODTREE_NAME], char sum[DIGEST_LEN], struct vps_err *err)
{
	autoclose int fd = -1;
	int r;

	*name = '\0';
	if (fs_read_buf(l->run_dir, MODULES, name, MODTREE_NAME) <= 0)
		return 0;
	fd = modtree_own(l->instance_dir, name);
	if (fd < 0)
		return vps_err_sys(err, fd, "the modules of its kernel");
	r = img_erofs_digest(fd, sum, err);
	return r < 0 ? r : 1;
}

static int write_size(const struct vps_live *l, int dir, bool to_go, struct vps_err *err)
{
	auto_strbuf sb = STRBUF_INIT;
	char modules[MODTREE_NAME], image[DIGEST_LEN], sum[DIGEST_LEN];
	struct vmm_stats v;
	int r = vmm_api_stats(l->run_dir, &v, ASK_MS, err);

	if (r < 0)
		return r;
	rec_add_u64(&sb, "memory", v.memory);
	rec_add_u64(&sb, "cpus", v.n_cpus);
	if (fs_read_buf(l->run_dir, MODULES, modules, sizeof(modules)) > 0)
		rec_add(&sb, "modules", modules);
	if (to_go && (r = modules_of(l, modules, sum, err)) > 0)
		rec_add(&sb, "modules_sum", sum);
	if (r < 0)
		return r;
	if (fs_read_buf(l->run_dir, IMAGE, image, sizeof(image)) > 0)
		rec_add(&sb, "image", image);
	r = sb_ok(&sb);
	r = r ?: fs_write_atomic(dir, SIZE, sb.s, sb.len, 0600);
	return r < 0 ? vps_err_sys(err, r, "write the checkpoint") : 0;
}

static int new_file(int dir, const char *name, struct vps_err *err)
{
	int fd = openat(dir, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	return fd < 0 ? vps_err_sys(err, -errno, "write the checkpoint: %s", name) : fd;
}

static void round_name(char name[24], unsigned round)
{
	snprintf(name, 24, "memory.%u", round);
}

int vm_checkpoint(const struct vps_live *l, int dir, unsigned rounds, struct vps_err *err)
{
	autoclose int last = -1;
	autoclose int fd = -1;
	char name[24];
	int r = rounds ? 0 : write_size(l, dir, false, err);

	if (r < 0)
		return r;
	fd = new_file(dir, SNAPSHOT, err);
	if (fd >= 0 && rounds) {
		round_name(name, rounds + 1);
		last = new_file(dir, name, err);
	}
	if (fd < 0 || (rounds && last < 0))
		r = fd < 0 ? fd : last;
	else
		r = rounds ? vmm_api_snapshot_rounds(l->hold->fd, rounds + 1, last, fd, true, SNAPSHOT_MS, err)
			   : vmm_api_snapshot(l->run_dir, fd, true, SNAPSHOT_MS, err);
	if (r < 0) {
		vm_precopy_end(l);
		if (!l->paused) /* nobody knows how far it came */
			vmm_api_resume(l->run_dir, ASK_MS, NULL);
	}
	return r;
}

/* ---- rounds ------------------------------------------------------------------------------- */

/* What a host must have that did not start it; its own kernel's modules are nobody's there. */
static int add_modules(const struct vps_live *l, int dir, struct vps_err *err)
{
	char name[MODTREE_NAME];
	int r;

	if (fs_read_buf(l->run_dir, MODULES, name, sizeof(name)) <= 0)
		return 0;
	r = modtree_give(l->instance_dir, name, dir, VM_MODULES_HERE);
	return r < 0 ? vps_err_sys(err, r, "the modules of its kernel") : 0;
}

static int one_round(const struct vps_live *l, unsigned round, int fd, struct vmm_round *ret, struct vps_err *err)
{
	struct vps_err why = {0};
	int r;

	for (int i = 0;; i++) {
		vps_err_clear(&why);
		r = vmm_api_precopy(l->run_dir, &l->hold->fd, round, fd, ret, SNAPSHOT_MS, &why);
		if (r != -EBUSY || round > 1 || i == BUSY_TRIES)
			break;
		poll(NULL, 0, BUSY_MS);
	}
	if (r == -ENOSYS)
		return vps_err_set(err, VPS_EUNSUPPORTED, "its vps-vmm is an older one");
	return r < 0 ? vps_err_set(err, why.code, "%s", why.msg) : 0;
}

int vm_precopy(const struct vps_live *l, int dir, unsigned round, struct precopy_stats *ret, struct vps_err *err)
{
	autoclose int fd = -1;
	struct vmm_round done;
	char name[24];
	int r = 0;

	if (!l->hold || round >= VMM_ROUNDS_MAX) /* one is the checkpoint's */
		return vps_err_set(err, VPS_EUNSUPPORTED, "no more rounds than %d", VMM_ROUNDS_MAX - 1);
	if (round == 1) {
		vm_precopy_end(l);
		r = write_size(l, dir, true, err);
		if (r == 0 && !l->hold->there)
			r = add_modules(l, dir, err);
	}
	round_name(name, round);
	r = r < 0 ? r : (fd = new_file(dir, name, err));
	/* it never stands still for that; but run_dir and hold what l refers to may go with the lock */
	if (r >= 0 && l->running)
		l->running(l->running_arg);
	r = r < 0 ? r : one_round(l, round, fd, &done, err);
	if (r < 0) {
		vm_precopy_end(l);
		return r;
	}
	*ret = (struct precopy_stats){.bytes = done.bytes};
	return 0;
}

void vm_precopy_end(const struct vps_live *l)
{
	if (l->hold)
		close_fd(&l->hold->fd);
}

/* ---- elsewhere -------------------------------------------------------------------------- */

/* "CPU DIGEST", with modules "CPU DIGEST DIGEST NAME". */
int vm_needs(const struct vps_live *l, char **ret, struct vps_err *err)
{
	char image[DIGEST_LEN], sum[DIGEST_LEN], modules[MODTREE_NAME];
	struct vmm_cpu cpu;
	int r = vmm_api_cpu(l->run_dir, &cpu, ASK_MS, err);

	if (r < 0)
		return r;
	if (fs_read_buf(l->run_dir, IMAGE, image, sizeof(image)) <= 0)
		return vps_err_set(err, VPS_EUNSUPPORTED, "it was started by an older vps: restart it");
	r = modules_of(l, modules, sum, err);
	if (r < 0)
		return r;
	*ret = r ? str_fmt("%s %s %s %s", cpu.text, image, sum, modules) : str_fmt("%s %s", cpu.text, image);
	return *ret ? 0 : vps_err_sys(err, -ENOMEM, "machine");
}

/* What vm_needs made, taken apart: the words that it must have, and those that it may have. */
struct needs {
	char **words;
	const char *cpu, *image, *modules_sum, *modules;
};

static void needs_done(struct needs *n) { strv_free(n->words); }

static int parse_needs(const char *text, struct needs *ret)
{
	struct needs n = {0};
	int r = strv_split(text ?: "", " ", &n.words);
	size_t len = strv_len(n.words);

	if (r < 0 || (len != 2 && len != 4) || !digest_valid(n.words[1]) ||
	    (len == 4 && (!digest_valid(n.words[2]) || !modtree_is_name(n.words[3])))) {
		needs_done(&n);
		return -EPROTO;
	}
	n.cpu = n.words[0];
	n.image = n.words[1];
	n.modules_sum = len == 4 ? n.words[2] : NULL;
	n.modules = len == 4 ? n.words[3] : NULL;
	*ret = n;
	return 0;
}

int vm_fits(const char *needs, int image, struct vps_err *err)
{
	auto_done(needs_done) struct needs n = {0};

	if (parse_needs(needs, &n) < 0)
		return vps_err_set(err, VPS_EUNSUPPORTED, "what the machine needs is not known: use the same vps on both hosts");
	return image < 0 ? vm_host_check_cpu(n.cpu, err) : vm_image_check(image, n.image, err);
}

/* This host's modules of that kernel, which its own machines will want. */
static void make_modules(int cache, const char *name)
{
	char release[MODTREE_NAME], made[MODTREE_NAME];
	autoclose int dir = modtree_release(name, release) < 0 ? -ENOENT : vm_kernel_modules(release);
	autoclose int fd = dir < 0 ? -1 : modtree_open(cache, dir, release, made, NULL);

	(void)fd;
}

bool vm_has(const char *needs, const struct vps_conf *c, bool make)
{
	auto_done(needs_done) struct needs n = {0};
	autoclose int cache = parse_needs(needs, &n) < 0 || !n.modules ? -1 : vm_cache_open(c, NULL);

	if (cache < 0)
		return false;
	if (modtree_same(cache, n.modules_sum, n.modules, -1) == 0)
		return true;
	if (make)
		make_modules(cache, n.modules);
	return make && modtree_same(cache, n.modules_sum, n.modules, -1) == 0;
}

/* ---- the end ----------------------------------------------------------------------------- */

int vm_checkpoint_end(const struct vps_live *l, bool go_on, struct vps_err *err)
{
	autoclose int pidfd = -1;
	int r;

	vm_precopy_end(l);
	if (go_on)
		return vmm_api_resume(l->run_dir, ASK_MS, err);
	/* paused: no CPU comes to run again */
	pidfd = proc_ident_open(l->init);
	r = pidfd < 0 ? pidfd : sys_pidfd_send_signal(pidfd, SIGKILL);
	return r < 0 && r != -ESRCH ? vps_err_sys(err, r, "end the machine") : 0;
}

int vm_modules_note(int run_dir, const char *name)
{
	return fs_write_rename(run_dir, MODULES, name, strlen(name), 0600);
}

int vm_image_note(int run_dir, int image, struct vps_err *err)
{
	char digest[DIGEST_LEN];
	int r = img_erofs_digest(image, digest, err);

	r = r ?: fs_write_rename(run_dir, IMAGE, digest, strlen(digest), 0600);
	return r < 0 ? vps_err_sys(err, r, "write the run directory") : 0;
}

int vm_size_parse(const char *text, size_t len, struct vm_size *ret)
{
	struct vm_size s = {0};
	uint64_t v = 0;
	struct rec rec;
	int r;

	while ((r = rec_next(&text, &len, &rec)) > 0) {
		if (str_eq(rec.key, "memory")) {
			r = rec_u64(&rec, UINT64_MAX, &s.memory);
		} else if (str_eq(rec.key, "cpus")) {
			r = rec_u64(&rec, VMM_MAX_CPUS, &v);
			s.cpus = (unsigned)v;
		} else if (str_eq(rec.key, "modules")) {
			r = modtree_is_name(rec.value) && strlen(rec.value) == rec.len ? 0 : -EPROTO;
			if (r == 0)
				strcpy(s.modules, rec.value);
		} else if (str_eq(rec.key, "modules_sum")) {
			r = digest_valid(rec.value) && strlen(rec.value) == rec.len ? 0 : -EPROTO;
			if (r == 0)
				strcpy(s.modules_sum, rec.value);
		} else if (str_eq(rec.key, "image")) {
			r = digest_valid(rec.value) && strlen(rec.value) == rec.len ? 0 : -EPROTO;
			if (r == 0)
				strcpy(s.image, rec.value);
		}
		rec_done(&rec);
		if (r < 0)
			return r;
	}
	if (r < 0 || !s.memory || !s.cpus)
		return -EPROTO;
	*ret = s;
	return 0;
}

/* As many as there are. */
static int open_rounds(int dir, int rounds[VMM_ROUNDS_MAX])
{
	char name[24];

	for (unsigned i = 0; i < VMM_ROUNDS_MAX; i++) {
		round_name(name, i + 1);
		rounds[i] = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
		if (rounds[i] < 0)
			return errno == ENOENT ? 0 : -errno;
	}
	return 0;
}

int vm_checkpoint_open(int dir, struct vm_size *ret, int rounds[VMM_ROUNDS_MAX], struct vps_err *err)
{
	autofree char *text = NULL;
	autoclose int fd = openat(dir, SNAPSHOT, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	size_t len;
	int r = fd < 0 ? -errno : fs_read(dir, SIZE, RECORDS_MAX, &text, &len);

	r = r ?: vm_size_parse(text, len, ret);
	r = r ?: open_rounds(dir, rounds);
	return r < 0 ? vps_err_sys(err, r, "the checkpoint of a machine") : take_fd(fd);
}
