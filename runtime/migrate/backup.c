// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Writing backups. Of a running VPS a copy of the disk is made first, as of a snapshot (instantly where the file system has
 * reflinks), and the lock is let go: the VPS can be used as ever while the backup is written. Of a stopped one
 * the disk itself is read, under its lock.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/json.h"
#include "runtime/events.h"
#include "runtime/migrate/backup.h"
#include "runtime/migrate/suspend.h"
#include "runtime/tar.h"

#define CUT_MIN	 (64u << 10)
#define CUT_MASK ((1ull << 18) - 1) /* one cut in 256 KiB on average, behind CUT_MIN */
#define PROFILE_MAX (1u << 20)

struct writer {
	struct vps_host *h;
	struct stream_out *s;
	const struct vps_backup_opts *o;
	const struct progress *p;
	struct chunk_set known; /* of the base */
	char base[DIGEST_LEN];
	uint64_t done; /* bytes of parts */
	struct vps_err *err;
	/* the disk: of the VPS itself, under l's lock, or of a copy */
	struct vps_locked *l;
	const struct vps_spec *spec;
	int dir, instance;
	const char *memory; /* in dir: a sealed checkpoint; NULL: without */
	bool booted;
	const char *how;
};

static bool stop_asked(void *arg)
{
	const struct progress *p = arg;

	return progress_tell(p, 0, "backup", 0, 0);
}

/* ---- chunks ----------------------------------------------------------------------------- */

static int put_ref(struct writer *w, uint64_t at, size_t len, const uint8_t hash[DIGEST_RAW_LEN])
{
	uint8_t rec[B_REF_LEN];

	stream_put_le(rec, at, 8);
	stream_put_le(rec + 8, len, 4);
	memcpy(rec + 12, hash, DIGEST_RAW_LEN);
	return stream_put(w->s, B_REF, rec, sizeof(rec), w->err);
}

static int put_chunk(struct writer *w, uint64_t at, const uint8_t *data, size_t len)
{
	uint8_t head[STREAM_FILE_HEAD], hash[DIGEST_RAW_LEN];
	struct digest_ctx *d;
	int r;

	w->done += len;
	if (progress_tell(w->p, 0, "backup", w->done, 0))
		return vps_err_set(w->err, VPS_EINTERRUPTED, "interrupted");
	if (*w->base) {
		d = digest_new();
		if (!d)
			return vps_err_sys(w->err, -ENOMEM, "backup");
		digest_add(d, data, len);
		r = digest_end_raw(d, hash);
		if (r < 0)
			return vps_err_sys(w->err, r, "hash");
		if (chunk_set_find(&w->known, hash))
			return put_ref(w, at, len, hash);
	}
	stream_put_le(head, at, 8);
	return stream_put2(w->s, B_CHUNK, head, sizeof(head), data, len, w->err);
}

static int begin_part(struct writer *w, const char *part, const char *as, uint64_t size)
{
	auto_strbuf sb = STRBUF_INIT;
	struct json_out o = JSON_OUT(&sb, false);

	jo_object(&o, NULL);
	jo_str(&o, "part", part);
	jo_str(&o, "as", as);
	jo_u64(&o, "size", size);
	jo_end_object(&o);
	return sb_ok(&sb) < 0 ? vps_err_sys(w->err, -ENOMEM, "backup")
			      : stream_put(w->s, B_PART, sb.s, sb.len, w->err);
}

static int end_part(struct writer *w, uint64_t len)
{
	uint8_t rec[B_PARTEND_LEN];

	stream_put_le(rec, len, 8);
	return stream_put(w->s, B_PARTEND, rec, sizeof(rec), w->err);
}

/* ---- streams, cut where their contents say so ----------------------------------------------- */

/* Gear hashing (Xia and others, FastCDC, 2016): each bit of the sum knows the last 64 bytes only. */
static void make_gear(uint64_t gear[256])
{
	uint64_t x = 0x9e3779b97f4a7c15ull; /* the same for ever, or nothing would be found again */

	for (int i = 0; i < 256; i++) {
		uint64_t z = x += 0x9e3779b97f4a7c15ull; /* splitmix64 */

		z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
		z = (z ^ z >> 27) * 0x94d049bb133111ebull;
		gear[i] = z ^ z >> 31;
	}
}

/* Where the first chunk of p ends. */
static size_t cut(const uint64_t gear[256], const uint8_t *p, size_t len)
{
	uint64_t sum = 0;

	if (len <= CUT_MIN)
		return len;
	for (size_t i = CUT_MIN - 64; i < len; i++) {
		sum = (sum << 1) + gear[p[i]];
		if (i >= CUT_MIN && !(sum >> 46 & CUT_MASK))
			return i + 1;
	}
	return len;
}

static int put_cut(struct writer *w, int fd, uint64_t *ret_len)
{
	autofree uint8_t *buf = malloc(STREAM_CHUNK);
	uint64_t gear[256], at = 0;
	size_t have = 0;
	bool end = false;

	if (!buf)
		return vps_err_sys(w->err, -ENOMEM, "backup");
	make_gear(gear);
	while (!end || have > 0) {
		ssize_t n = end ? 0 : fs_read_full(fd, buf + have, STREAM_CHUNK - have);
		size_t len;
		int r;

		if (n < 0)
			return vps_err_sys(w->err, (int)n, "read the tree");
		have += (size_t)n;
		end = have < STREAM_CHUNK;
		if (!have)
			break;
		len = cut(gear, buf, have);
		r = put_chunk(w, at, buf, len);
		if (r < 0)
			return r;
		memmove(buf, buf + len, have - len);
		have -= len;
		at += len;
	}
	*ret_len = at;
	return 0;
}

static int put_fed(struct writer *w, const char *part, const char *as,
		   int (*fn)(void *arg, int fd, struct feeder_report *r))
{
	struct feeder f = FEEDER_INIT;
	struct vps_err why = {0};
	uint64_t len = 0;
	int r = begin_part(w, part, as, 0), e;

	r = r ?: feeder_start(fn, w, &f, w->err);
	if (r < 0)
		return r;
	r = put_cut(w, f.data, &len);
	if (r < 0) {
		feeder_kill(&f);
		return r;
	}
	e = feeder_end(&f, NULL, &why);
	if (e < 0)
		return vps_err_set(w->err, why.code, "%s", why.msg);
	return end_part(w, len);
}

static int pack_tree(void *arg, int fd, struct feeder_report *rep)
{
	struct writer *w = arg;
	autoclose int mount = -1;
	autoclose int upper = -1;
	struct img_disk_spec d;
	int r;

	snap_disk(w->spec, &d);
	r = img_disk_attach(w->dir, d.backend, true, &mount, &rep->err);
	if (r < 0)
		return r;
	upper = openat(mount, "upper", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return upper < 0 ? vps_err_sys(&rep->err, -errno, "open the disk") : img_upper_pack(upper, fd, NULL, &rep->err);
}

static int pack_image(void *arg, int fd, struct feeder_report *rep)
{
	struct writer *w = arg;
	struct img_store *images;
	int r = vps_host_images(w->h, &images, &rep->err);

	if (r < 0)
		return r;
	if (dup2(fd, STDOUT_FILENO) < 0)
		return vps_err_sys(&rep->err, -errno, "dup");
	return img_export(images, w->spec->image_digest, "-", IMG_OCI_TAR, NULL, &rep->err);
}

static int pack_memory(void *arg, int fd, struct feeder_report *rep)
{
	struct writer *w = arg;
	autoclose int dir = fs_open_dir(w->dir, w->memory);

	return dir < 0 ? vps_err_sys(&rep->err, dir, "open the memory") : tar_pack_tree(dir, fd, &rep->err);
}

/* ---- blocks ------------------------------------------------------------------------------------ */

static bool is_zero(const uint8_t *p, size_t len)
{
	return len == 0 || (p[0] == 0 && memcmp(p, p + 1, len - 1) == 0);
}

static int put_windows(struct writer *w, int fd, uint64_t size)
{
	autofree uint8_t *buf = malloc(B_WINDOW);

	if (!buf)
		return vps_err_sys(w->err, -ENOMEM, "backup");
	for (uint64_t at = 0; at < size;) {
		off_t data = lseek(fd, (off_t)at, SEEK_DATA);
		size_t len;
		int r;

		if (data < 0 && errno == ENXIO)
			break;
		if (data > (off_t)at)
			at = (uint64_t)data / B_WINDOW * B_WINDOW;
		len = size - at < B_WINDOW ? (size_t)(size - at) : B_WINDOW;
		r = fs_pread_all(fd, buf, len, at);
		if (r < 0)
			r = vps_err_sys(w->err, r, "read the disk");
		if (r == 0 && !is_zero(buf, len))
			r = put_chunk(w, at, buf, len);
		if (r < 0)
			return r;
		at += len;
	}
	return 0;
}

static int put_blocks(struct writer *w)
{
	autoclose int fd = -1;
	struct stat st;
	int r = img_disk_blocks_open(w->dir, &fd, w->err);

	if (r == 0 && fstat(fd, &st) < 0)
		r = vps_err_sys(w->err, -errno, "open the disk");
	r = r ?: begin_part(w, "disk", "blocks", (uint64_t)st.st_size);
	r = r ?: put_windows(w, fd, (uint64_t)st.st_size);
	return r ?: end_part(w, (uint64_t)st.st_size);
}

/* ---- the head ---------------------------------------------------------------------------------------- */

static int put_meta(struct writer *w)
{
	auto_strbuf sb = STRBUF_INIT;
	struct json_out o = JSON_OUT(&sb, false);
	char host[256] = "";
	autofree char *source = NULL;

	(void)gethostname(host, sizeof(host) - 1);
	source = str_fmt("%s on %s", w->spec->name, host);
	jo_object(&o, NULL);
	jo_u64(&o, "version", BACKUP_VERSION);
	jo_u64(&o, "created", (uint64_t)time(NULL));
	jo_str(&o, "source", source);
	jo_str(&o, "how", w->how);
	jo_bool(&o, "booted", w->booted);
	jo_bool(&o, "memory", w->memory);
	if (*w->base)
		jo_str(&o, "base", w->base);
	jo_end_object(&o);
	return sb_ok(&sb) < 0 ? vps_err_sys(w->err, -ENOMEM, "backup")
			      : stream_put(w->s, B_META, sb.s, sb.len, w->err);
}

static int put_spec(struct writer *w)
{
	auto_strbuf sb = STRBUF_INIT;
	struct json_out o = JSON_OUT(&sb, false);
	autofree char *profile = NULL;
	auto_done(spec_done) struct vps_spec spec;
	size_t len = 0;
	int r = spec_copy(&spec, w->spec);

	if (r < 0)
		spec_init(&spec);
	if (r == 0 && w->memory)
		r = clone_keep_mac(w->h, &spec);
	if (r < 0)
		return vps_err_sys(w->err, r, "backup");
	spec_to_json(&spec, &o, NULL);
	r = sb_ok(&sb) < 0 ? vps_err_sys(w->err, -ENOMEM, "backup") : stream_put(w->s, B_SPEC, sb.s, sb.len, w->err);
	if (r < 0 || !str_eq(w->spec->seccomp, SPEC_SECCOMP_FILE))
		return r;
	r = fs_read(w->instance, SPEC_SECCOMP_FILE, PROFILE_MAX, &profile, &len);
	return r < 0 ? vps_err_sys(w->err, r, "seccomp profile") : stream_put(w->s, B_SECCOMP, profile, len, w->err);
}

static int write_all(struct writer *w, char digest[DIGEST_LEN])
{
	struct stream_opts o = {.level = w->o->level < 0 ? 0 : w->o->level ? w->o->level : 3, .stop = stop_asked,
				.arg = (void *)(uintptr_t)w->p};
	int r = stream_out_begin(w->o->fd, BACKUP_KIND, backup_types, backup_n_types, &o, &w->s, w->err);

	r = r ?: put_meta(w);
	r = r ?: put_spec(w);
	if (r == 0 && !w->o->no_image)
		r = put_fed(w, "image", "oci", pack_image);
	if (r == 0)
		r = img_disk_is_guests(w->dir) ? put_blocks(w) : put_fed(w, "disk", "tree", pack_tree);
	if (r == 0 && w->memory)
		r = put_fed(w, "memory", "tar", pack_memory);
	return r ?: stream_out_end(w->s, digest, w->err);
}

/* ---- which disk ------------------------------------------------------------------------------------------ */

static int read_base(struct writer *w)
{
	struct stream_opts o = {.stop = stop_asked, .arg = (void *)(uintptr_t)w->p};
	struct backup_in in;
	int r;

	if (w->o->base_fd < 0)
		return 0;
	backup_in_init(&in);
	r = backup_scan(w->o->base_fd, 0, &o, &w->known, &in, w->err);
	if (r < 0)
		return vps_err_wrap(w->err, r, "the backup before");
	memcpy(w->base, in.digest, DIGEST_LEN);
	backup_in_done(&in);
	return 0;
}

/* Of what does not run, the disk itself, and the memory of one that is suspended. */
static int choose_stopped(struct writer *w)
{
	struct vps_locked *l = w->l;

	w->spec = &l->spec;
	w->dir = l->dir;
	w->booted = fs_exists(l->dir, FIRST_BOOT_DONE);
	w->how = "stopped";
	if (!w->o->memory)
		return 0;
	if (!suspended_is(l))
		return vps_err_set(w->err, VPS_ESTATE, "it does not run: there is no memory to keep");
	if (fs_exists(l->dir, SUSPENDED "/" SUSPENDED_PLACE))
		return vps_err_set(w->err, VPS_ESTATE, "its memory is in another file (suspend --to); keep that");
	w->memory = SUSPENDED;
	return 0;
}

/* Something to read that stands still, and the lock only as long as it is needed for that. */
static int choose_disk(struct writer *w, struct snap *snap)
{
	const struct vps_snapshot_opts with = {.memory = w->o->memory};
	struct run_state state;
	int r;

	w->instance = w->l->dir;
	if (w->o->snapshot) {
		r = snap_open(w->l, w->o->snapshot, snap, w->err);
		r = r ?: snap_hold(snap, w->err);
	} else if (need_running(w->l, &state, NULL) < 0) {
		return choose_stopped(w);
	} else {
		r = snap_make(w->l, NULL, &with, w->p, snap, w->err);
	}
	if (r == 0 && w->o->memory && !snap_has_memory(snap->dir))
		r = vps_err_set(w->err, VPS_ESTATE, "the snapshot is without memory");
	if (r < 0)
		return r;
	w->memory = w->o->memory ? SNAP_MEMORY : NULL;
	w->spec = &snap->spec;
	w->dir = snap->dir;
	w->booted = snap->booted;
	w->how = snap->s.how;
	close_fd(&w->l->lock);
	return 0;
}

/* The copy that was made for this: taken away under the lock again, or by whoever has it next. */
static void drop_copy(struct writer *w, struct snap *snap)
{
	struct vps_locked *l = w->l;
	char entry[24];

	if (snap->dir < 0 || w->o->snapshot)
		return;
	snprintf(entry, sizeof(entry), ".use.%d", (int)getpid());
	if (l->lock < 0)
		l->lock = store_lock_dir(l->h, l->dir, l->spec.name, "backup", l->h->lock_timeout_ms, NULL);
	if (l->lock >= 0)
		(void)snap_scrap(l, entry, NULL);
}

int vps_backup(struct vps_host *h, const char *who, const struct vps_backup_opts *o, const struct progress *p,
	       struct vps_backup_result *ret, struct vps_err *err)
{
	auto_locked l = VPS_LOCKED_INIT;
	struct writer w = {.h = h, .o = o, .p = p, .err = err, .l = &l, .dir = -1};
	auto_snap snap;
	struct vps_backup_result res = {0};
	int r;

	snap_init(&snap);
	spec_init(&l.spec);
	r = read_base(&w);
	r = r ?: vps_lock(h, who, "backup", &l, err);
	r = r ?: choose_disk(&w, &snap);
	r = r ?: write_all(&w, res.digest);
	if (r == 0) {
		res.bytes = stream_out_bytes(w.s);
		res.data = w.done;
		event_add(h->run_fd, l.id, l.spec.name, "backup", NULL, 0);
		if (ret)
			*ret = res;
	}
	stream_out_free(w.s);
	chunk_set_done(&w.known);
	drop_copy(&w, &snap);
	return r < 0 ? vps_err_wrap(err, r, "backup of %s", who) : 0;
}
