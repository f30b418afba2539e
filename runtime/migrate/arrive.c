// SPDX-License-Identifier: GPL-2.0-or-later
#include "runtime/migrate/arrive.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/fs.h"
#include "runtime/container/criu.h"
#include "runtime/events.h"
#include "runtime/inside.h"
#include "runtime/migrate/checkpoint.h"
#include "runtime/migrate/suspend.h"

#define DISK   "disk"
#define MEMORY "memory"

/* ---- what is here already ---------------------------------------------------------------- */

static int find_uuid(struct vps_host *h, const char *uuid, unsigned *ret, struct vps_err *err)
{
	autofree unsigned *ids = NULL;
	size_t n;
	int r = store_ids(h, &ids, &n, err);

	for (size_t i = 0; r == 0 && i < n; i++) {
		auto_done(spec_done) struct vps_spec s;
		spec_init(&s);
		if (store_read_spec_of(h, ids[i], &s, NULL) == 0 && str_eq(s.uuid, uuid)) {
			*ret = ids[i];
			return 1;
		}
	}
	return r;
}

static int open_incoming(struct arrival *a, const char *uuid, struct vps_err *err)
{
	autofree char *path = str_fmt(INCOMING "/%s", uuid);

	if (!path)
		return vps_err_sys(err, -ENOMEM, INCOMING);
	/* Who had it takes the directory away when he is done. */
	for (int tries = 0; a->lock < 0 && tries < 10; tries++) {
		int r = fs_mkdir_p(a->h->root_fd, path, 0700);
		close_fd(&a->dir);
		a->dir = r < 0 ? r : fs_open_dir(a->h->root_fd, path);
		if (a->dir < 0 && a->dir != -ENOENT)
			return vps_err_sys(err, a->dir, INCOMING);
		a->lock = a->dir < 0 ? a->dir : lock_take(a->dir, "lock", true, a->h->lock_timeout_ms);
		if (a->lock != -ENOENT)
			break;
	}
	if (a->lock == -EWOULDBLOCK)
		return vps_err_set(err, VPS_ELOCKED, "another 'vps receive' is at this VPS");
	return a->lock < 0 ? vps_err_sys(err, a->lock, INCOMING) : 0;
}

int arrival_open(struct vps_host *h, const struct offer *o, struct arrival *ret, struct vps_err *err)
{
	char who[ID_STR];
	unsigned id = 0;
	int r;

	*ret = (struct arrival)ARRIVAL_INIT;
	ret->h = h;
	ret->offer = o;
	spec_init(&ret->l.spec);
	r = open_incoming(ret, o->spec.uuid, err);
	r = r < 0 ? r : find_uuid(h, o->spec.uuid, &id, err);
	if (r < 0)
		return r;
	ret->there = r == 1;
	if (ret->there) {
		r = vps_lock(h, id_str(id, who), "receive", &ret->l, err);
		return r < 0 ? r : ho_file_read(ret->l.dir, &ret->file, err);
	}
	r = ho_file_read(ret->dir, &ret->file, err);
	if (r == 0 && ret->file.rec.phase != HO_RECEIVING)
		ret->file.rec = (struct ho_record){.phase = HO_NONE};
	return r;
}

int arrival_confirm(struct arrival *a, uint64_t epoch, struct vps_err *err)
{
	int r;

	if (!a->there || a->file.rec.phase != HO_COMMITTED || epoch <= a->file.rec.epoch)
		return 0;
	a->file.rec.phase = HO_GONE;
	r = ho_file_write(a->l.dir, &a->file, err);
	if (r < 0 || a->file.keep)
		return r;
	r = arrival_discard(a, err);
	a->file.rec = (struct ho_record){.phase = HO_NONE};
	return r;
}

static void close_disk(struct arrival *a)
{
	close_fd(&a->upper);
	close_fd(&a->mount);
	close_fd(&a->blocks);
	close_fd(&a->memory);
}

static void drop_incoming(struct arrival *a)
{
	char path[sizeof(INCOMING) + 40];

	if (img_disk_destroy(a->dir, DISK_AUTO, NULL) < 0)
		return;
	snprintf(path, sizeof(path), INCOMING "/%s", a->offer->spec.uuid);
	fs_remove_tree(a->h->root_fd, path);
}

void arrival_done(struct arrival *a)
{
	close_disk(a);
	if (!a->there && a->l.dir >= 0)
		store_scrap(&a->l, NULL);
	/* A dead claim's files go with it; what was received stays for the next connection. */
	if (a->dir >= 0 && a->lock >= 0 && a->file.rec.phase != HO_RECEIVING)
		drop_incoming(a);
	else if (a->dir >= 0 && a->lock >= 0)
		(void)fs_remove_tree(a->dir, MEMORY); /* which begins anew */
	locked_done(&a->l);
	ho_file_done(&a->file);
	checkpoint_sums_done(&a->sums);
	close_fd(&a->lock);
	close_fd(&a->dir);
}

/* ---- claims -------------------------------------------------------------------------------- */

static int problem(struct answer *ans, const struct vps_err *why)
{
	return strv_add(&ans->problems, why->msg);
}

/* The definition as it will be here. */
static int our_spec(struct arrival *a, struct vps_spec *ret, struct vps_err *err)
{
	int r = spec_copy(ret, &a->offer->spec);

	if (r < 0)
		return vps_err_sys(err, r, "definition");
	ret->id = 0;
	ret->id_base = 0;
	return 0;
}

/* The very addresses that it has, whether it once asked for any or for these. */
static int take_leases(struct arrival *a, struct vps_spec *s, struct vps_err *err)
{
	char **ips = s->ips;
	int r;

	if (!s->addrs)
		return lease_take(a->h, NULL, s, err);
	s->ips = NULL;
	r = strv_copy(&s->ips, s->addrs);
	r = r < 0 ? vps_err_sys(err, r, "addresses") : lease_take(a->h, NULL, s, err);
	strv_free(s->ips);
	s->ips = ips;
	return r;
}

/* The number that it had, where that is free. */
static int claim_number(struct arrival *a, struct vps_err *err)
{
	unsigned id = a->offer->spec.id;

	if (id && claim_id(a->h, id, "receive", &a->l, NULL) == 0)
		return 0;
	return claim_id(a->h, 0, "receive", &a->l, err);
}

static int claim(struct arrival *a, struct vps_err *err)
{
	struct vps_spec s;
	int r = our_spec(a, &s, err);

	if (r < 0)
		return r;
	r = claim_number(a, err);
	if (r < 0) {
		spec_done(&s);
		return r;
	}
	s.id = a->l.id;
	spec_done(&a->l.spec);
	spec_init(&a->l.spec);
	r = id_base_of(&a->h->conf, s.id, &s.id_base, err);
	r = r ?: claim_name(a->h, s.id, s.name, err);
	r = r ?: take_leases(a, &s, err);
	if (r < 0) {
		spec_done(&s);
		store_scrap(&a->l, NULL);
		locked_done(&a->l);
		a->l = (struct vps_locked)VPS_LOCKED_INIT;
		spec_init(&a->l.spec);
		return r;
	}
	a->l.spec = s;
	return 0;
}

/* ---- the check -------------------------------------------------------------------------------- */

static uint64_t memory_free(void)
{
	autofree char *text = NULL;
	unsigned long long kb;
	const char *p;

	if (fs_read(AT_FDCWD, "/proc/meminfo", 65536, &text, NULL) < 0)
		return UINT64_MAX;
	p = strstr(text, "MemAvailable:");
	return p && sscanf(p, "MemAvailable: %llu kB", &kb) == 1 ? kb << 10 : UINT64_MAX;
}

static int check_room(struct arrival *a, struct answer *ans)
{
	const struct offer *o = a->offer;
	char need[16], have[16];
	struct statvfs v;
	uint64_t want = o->used;
	int r = 0;

	if (fstatvfs(a->h->root_fd, &v) == 0)
		ans->disk_free = (uint64_t)v.f_bavail * v.f_frsize;
	ans->memory_free = memory_free();
	if (ans->image)
		want += o->image_size;
	if (o->mode == VPS_MIGRATE_LIVE) /* which lies there until it runs */
		want += 3 * o->memory; /* a round, another one as large, and the rest */
	/* an eighth for the file system's own */
	if (want + want / 8 > ans->disk_free)
		r = strv_addf(&ans->problems, "its disk%s%s takes %s, and %s is free in '%s' there: make room, or mount more there",
			      ans->image ? ", image" : "", o->mode == VPS_MIGRATE_LIVE ? ", memory" : "", fmt_size(want, need, sizeof(need)),
			      fmt_size(ans->disk_free, have, sizeof(have)), a->h->conf.root);
	if (r == 0 && o->mode != VPS_MIGRATE_STOPPED && o->memory > ans->memory_free)
		r = strv_addf(&ans->problems,
			      "it uses %s of memory, and %s is free there: stop something there, or give it less first",
			      fmt_size(o->memory, need, sizeof(need)),
			      fmt_size(ans->memory_free, have, sizeof(have)));
	return r;
}

static int check_paths(const struct vps_spec *s, struct answer *ans)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < s->n_mounts; i++)
		if (!fs_exists(AT_FDCWD, s->mounts[i].src))
			r = strv_addf(&ans->problems,
				      "it mounts '%s', which is not there: make it there, or 'vps set %s --mount -%s' first",
				      s->mounts[i].src, s->name, s->mounts[i].dst);
	return r;
}

static int check_image(struct arrival *a, struct answer *ans, struct vps_err *err)
{
	auto_done(img_info_done) struct img_info info = {0};
	struct img_store *images;
	int r = vps_host_images(a->h, &images, err);

	if (r < 0)
		return r;
	/* the same one may be called otherwise on each host (img_export) */
	r = img_inspect(images, a->offer->spec.image_digest, &info, NULL);
	for (char **d = a->offer->image_as; r < 0 && d && *d; d++)
		r = digest_valid(*d) ? img_inspect(images, *d, &info, NULL) : r;
	ans->image = r < 0;
	ans->image_layers = r < 0 ? img_layers_here(images, a->offer->image_layers) : 0;
	if (r == 0)
		snprintf(a->digest, sizeof(a->digest), "%s", info.digest);
	return 0;
}

/* Can a memory be brought back here? */
static int check_means(struct arrival *a, struct answer *ans)
{
	auto_done(criu_done) struct criu c = {0};
	struct vps_err why = {0};

	const struct vps_driver *driver = driver_of(&a->offer->spec);

	if (!driver->checkpoint)
		return strv_add(&ans->problems, "that host cannot bring a memory back: use --restart");
	if (driver->fits && driver->fits(a->offer->needs, -1, &why) < 0)
		return strv_addf(&ans->problems, "that host cannot go on with its memory: %s; or use --restart", why.msg);
	ans->has = driver->has && driver->has(a->offer->needs, &a->h->conf, !a->offer->check);
	if (a->offer->spec.isolation != ISOLATION_CONTAINER)
		return 0;
	if (criu_find(&a->h->conf, &c, &why) < 0 || criu_check(&c, &why) < 0)
		return strv_addf(&ans->problems, "that host cannot bring its memory back: %s; or use --restart", why.msg);
	return 0;
}

static int check_mode(struct arrival *a, struct answer *ans)
{
	const struct offer *o = a->offer;
	struct utsname u;
	int r = 0;

	if (uname(&u) < 0)
		return -errno;
	r = str_set(&ans->kernel, u.release);
	r = r ?: str_set(&ans->host, u.nodename);
	if (r == 0 && o->mode == VPS_MIGRATE_LIVE)
		r = check_means(a, ans);
	if (r == 0 && !str_eq(o->arch, u.machine))
		r = strv_addf(&ans->problems, "it is of %s, that host is %s: no program of its disk would run there",
			      o->arch ? o->arch : "another machine", u.machine);
	return r;
}

/* Everything a create here would refuse, and all of it, not the first alone. */
int arrival_check(struct arrival *a, struct answer *ans, struct vps_err *err)
{
	auto_done(spec_done) struct vps_spec s;
	struct vps_err why = {0};
	int r;

	spec_init(&s);
	r = our_spec(a, &s, err);
	r = r ?: check_image(a, ans, err);
	r = r ?: check_mode(a, ans);
	r = r ?: check_room(a, ans);
	r = r ?: check_paths(&s, ans);
	if (r < 0)
		return vps_err_sys(err, r, "check");
	if (a->there && a->file.rec.phase != HO_PREPARED) {
		ans->running = need_running(&a->l, &(struct run_state){0}, NULL) == 0;
		vps_err_set(&why, VPS_EEXISTS,
			    "it is on that host already, as '%s' (id %u)%s", a->l.spec.name, a->l.id,
			    ho_may_run(a->file.rec.phase) ? "" : ": the copy that was kept when it moved away; delete it there first");
		return problem(ans, &why);
	}
	if (spec_check_host(a->h, &s, &why) < 0)
		r = problem(ans, &why);
	if (r == 0 && !ans->problems && !a->there && claim(a, &why) < 0)
		r = problem(ans, &why);
	return r < 0 ? vps_err_sys(err, r, "check") : 0;
}

/* ---- the disk ------------------------------------------------------------------------------------ */

/* What a disk was made for: another one is made where that is not the same any more. */
static char *disk_key(const struct arrival *a, const char *backend)
{
	struct img_disk_spec d;

	plan_disk(&a->l.spec, &d);
	return str_fmt("%s %llu %llu %u %s", backend, (unsigned long long)d.size, (unsigned long long)d.inodes,
		       str_eq(backend, "quota") ? d.project : 0, a->offer->blocks ? "blocks" : "files");
}

/* 1: that of a connection before, as far as that came. */
static int old_disk(struct arrival *a, struct vps_err *err)
{
	autofree char *backend = a->file.disk ? strndup(a->file.disk, strcspn(a->file.disk, " ")) : NULL;
	autofree char *key = backend ? disk_key(a, backend) : NULL;
	int r;

	if (!key || !str_eq(key, a->file.disk) || !fs_exists(a->dir, DISK))
		return 0;
	r = str_set(&a->l.spec.disk_backend, backend);
	return r < 0 ? vps_err_sys(err, r, "disk") : 1;
}

static int make_disk(struct arrival *a, struct vps_err *err)
{
	struct img_disk_spec d;
	enum img_backend b;
	int r = old_disk(a, err);

	a->resumed = r == 1;
	r = r ?: img_disk_destroy(a->dir, DISK_AUTO, err);
	if (r != 0)
		return r < 0 ? r : 0;
	plan_disk(&a->l.spec, &d);
	r = img_disk_check(a->dir, &d, &b, NULL);
	if (r < 0 && d.backend != DISK_AUTO && !a->offer->blocks) {
		d.backend = DISK_AUTO; /* the kind that it had is not to be had here */
		r = 0;
	}
	r = img_disk_create(a->dir, &d, &b, err);
	r = r ?: str_set(&a->l.spec.disk_backend, img_backend_name(b));
	if (r < 0)
		return vps_err_sys(err, r, "disk");
	free(a->file.disk);
	a->file.disk = disk_key(a, img_backend_name(b));
	return ho_file_write(a->dir, &a->file, err);
}

static int open_blocks(struct arrival *a, struct apply *ap, struct vps_err *err)
{
	autoclose int mark = -1;
	struct stat st;
	/* A guest kernel wrote what comes: this host's own never mounts it (I5). */
	int r = img_disk_guest_open(a->dir, false, &mark, err);

	if (r < 0)
		return r;
	a->blocks = fs_open_dir(a->dir, DISK);
	if (a->blocks < 0 || fstatat(a->blocks, "disk.img", &st, AT_SYMLINK_NOFOLLOW) < 0)
		return vps_err_sys(err, a->blocks < 0 ? a->blocks : -errno, "disk");
	ap->tops[TREE_BLOCKS] = a->blocks;
	ap->blocks_size = (uint64_t)st.st_size;
	return 0;
}

static int open_memory(struct arrival *a, struct apply *ap, struct vps_err *err)
{
	int r = fs_remove_tree(a->dir, MEMORY);

	if (r == 0 && mkdirat(a->dir, MEMORY, 0700) < 0)
		r = -errno;
	a->memory = r < 0 ? r : fs_open_dir(a->dir, MEMORY);
	if (a->memory < 0)
		return vps_err_sys(err, a->memory, "memory");
	ap->tops[TREE_MEMORY] = a->memory;
	return 0;
}

int arrival_disk(struct arrival *a, struct apply *ap, struct vps_err *err)
{
	struct img_disk_spec d;
	int r = make_disk(a, err);

	if (r == 0 && a->offer->mode == VPS_MIGRATE_LIVE)
		r = open_memory(a, ap, err);
	if (r < 0)
		return r;
	if (a->offer->blocks)
		return open_blocks(a, ap, err);
	plan_disk(&a->l.spec, &d);
	r = img_disk_attach(a->dir, d.backend, false, &a->mount, err);
	if (r < 0)
		return r;
	a->upper = openat(a->mount, "upper", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (a->upper < 0)
		return vps_err_sys(err, -errno, "disk");
	ap->tops[TREE_DISK] = a->upper;
	return 0;
}

/* ---- steps ------------------------------------------------------------------------------------------ */

static int pin(struct arrival *a, struct vps_err *err)
{
	struct img_store *images;
	char owner[ID_STR];
	int r = vps_host_images(a->h, &images, err);

	return r < 0 ? r : img_pin(images, id_str(a->l.id, owner), a->digest, err);
}

static int put_seccomp(struct arrival *a, struct vps_err *err)
{
	const char *text = a->offer->seccomp;
	int r;

	if (!str_eq(a->l.spec.seccomp, SPEC_SECCOMP_FILE))
		return 0;
	if (!text)
		return vps_err_set(err, VPS_EBADIMAGE, "its seccomp profile did not come");
	r = fs_write_atomic(a->l.dir, SPEC_SECCOMP_FILE, text, strlen(text), 0600);
	return r < 0 ? vps_err_sys(err, r, "seccomp profile") : 0;
}

/* Sealed with this host's key it is what a suspended VPS has, and a start goes on from it. */
static int put_memory(struct arrival *a, struct vps_err *err)
{
	int r;

	if (a->offer->mode != VPS_MIGRATE_LIVE)
		return 0;
	r = checkpoint_adopt(a->h, &a->l.spec, a->memory, &a->sums, NULL, err);
	if (r == 0 && syncfs(a->memory) < 0)
		r = vps_err_sys(err, -errno, "memory");
	if (r < 0)
		return r;
	if (renameat2(a->dir, MEMORY, a->l.dir, SUSPENDED, RENAME_NOREPLACE) < 0)
		return vps_err_sys(err, -errno, "put the memory in its place");
	return 0;
}

/* A machine's image as its guest sees it: made while the other side runs, and the same, or it shall run on there. */
static int ready_image(struct arrival *a, struct vps_err *err)
{
	const struct vps_driver *driver = driver_of(&a->l.spec);
	auto_done(img_info_done) struct img_info info = {0};
	struct img_store *images;
	autoclose int fd = -1;
	int r;

	if (a->image_ready || !driver->machine || a->offer->mode != VPS_MIGRATE_LIVE || !digest_valid(a->digest))
		return 0;
	r = vps_host_images(a->h, &images, err);
	r = r ?: img_inspect(images, a->digest, &info, err);
	r = r ?: img_erofs_open(images, &info, a->l.spec.id_base, NULL, &fd, err);
	r = r ?: driver->fits(a->offer->needs, fd, err);
	a->image_ready = r == 0;
	return r;
}

int arrival_round(struct arrival *a, struct vps_err *err)
{
	int r = ready_image(a, err);

	if (r < 0)
		return r;
	return a->memory < 0 ? 0 : checkpoint_sums_make(&a->sums, a->memory, err);
}

/* All but the two files that say that it is there. */
int arrival_prepare(struct arrival *a, struct vps_err *err)
{
	int r = put_memory(a, err);

	r = r ?: str_set(&a->l.spec.image_digest, a->digest);
	close_disk(a);
	if (r == 0 && !digest_valid(a->digest))
		return vps_err_set(err, VPS_EBADIMAGE, "its image did not come");
	r = r ?: pin(a, err);
	r = r ?: put_seccomp(a, err);
	if (r == 0 && a->offer->first_boot_done)
		r = fs_write_rename(a->l.dir, FIRST_BOOT_DONE, "", 0, 0600);
	if (r == 0 && a->offer->copied)
		r = fs_write_rename(a->l.dir, COPIED_FILE, "", 0, 0600);
	if (r < 0)
		return vps_err_sys(err, r, "prepare");
	if (renameat2(a->dir, DISK, a->l.dir, DISK, RENAME_NOREPLACE) < 0)
		return vps_err_sys(err, -errno, "put the disk in its place");
	r = fs_sync_dir(a->l.dir, ".");
	return r < 0 ? vps_err_sys(err, r, "prepare") : 0;
}

static int save_prepared(struct arrival *a, struct vps_err *err)
{
	int r = ho_file_write(a->l.dir, &a->file, err);

	r = r ?: store_write_spec(a->l.dir, &a->l.spec, err);
	if (r < 0)
		return r;
	a->there = true;
	event_add(a->h->run_fd, a->l.id, a->l.spec.name, "migrate-prepared", NULL, 0);
	return 0;
}

int arrival_save(struct arrival *a, const struct ho_record *want, struct vps_err *err)
{
	struct vps_err why = {0};
	int r;

	if (want->phase == HO_RECEIVING && a->l.dir < 0 && claim(a, &why) < 0)
		return vps_err_set(err, why.code, "%s", why.msg);
	a->file.rec = *want;
	r = str_set(&a->file.peer, a->offer->peer);
	a->file.was_running = a->offer->mode != VPS_MIGRATE_STOPPED;
	if (r < 0)
		return vps_err_sys(err, r, "record");
	if (want->phase == HO_RECEIVING)
		return ho_file_write(a->dir, &a->file, err);
	if (want->phase == HO_PREPARED)
		return save_prepared(a, err);
	if (want->phase == HO_NONE) /* what is left goes with arrival_done */
		return 0;
	return ho_file_write(a->l.dir, &a->file, err);
}

int arrival_discard(struct arrival *a, struct vps_err *err)
{
	int r;

	close_disk(a);
	if (!a->there)
		return 0;
	r = delete_locked(&a->l, err);
	if (r < 0)
		return r;
	a->there = false;
	locked_done(&a->l);
	a->l = (struct vps_locked)VPS_LOCKED_INIT;
	spec_init(&a->l.spec);
	return 0;
}

int arrival_release(struct arrival *a, struct vps_err *err)
{
	struct run_state s;

	if (!a->file.was_running || need_running(&a->l, &s, NULL) == 0)
		return 0;
	return start_locked(&a->l, NULL, NULL, err);
}
