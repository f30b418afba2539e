/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "runtime/migrate/checkpoint.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/sys.h"

#define MANIFEST_MAX (64u << 20)
#define SLACK_NS     20000000

/* ---- the host's key --------------------------------------------------------------- */

static int read_key(struct vps_host *h, unsigned char key[CHECKPOINT_KEY_LEN], struct vps_err *err)
{
	struct stat st;
	autoclose int fd = openat(h->root_fd, CHECKPOINT_KEY, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return errno == ENOENT ? -ENOENT : vps_err_sys(err, -errno, "open " CHECKPOINT_KEY);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 077))
		return vps_err_set(err, EPERM, "%s/" CHECKPOINT_KEY " is not a file that only root can read",
				   h->conf.root);
	if (fs_read_full(fd, key, CHECKPOINT_KEY_LEN) != CHECKPOINT_KEY_LEN)
		return vps_err_set(err, VPS_ECONF, "%s/" CHECKPOINT_KEY " is too short", h->conf.root);
	return 0;
}

/* Made at first use. Who comes second takes the first one's: linkat(2) never replaces. */
static int make_key(struct vps_host *h, struct vps_err *err)
{
	unsigned char key[CHECKPOINT_KEY_LEN];
	char path[40];
	autoclose int fd = openat(h->root_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	int r;

	if (fd < 0)
		return vps_err_sys(err, -errno, "make " CHECKPOINT_KEY);
	if (getrandom(key, sizeof(key), 0) != sizeof(key))
		return vps_err_sys(err, -EIO, "make " CHECKPOINT_KEY);
	r = fs_write_all(fd, key, sizeof(key));
	explicit_bzero(key, sizeof(key));
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (r == 0 && linkat(AT_FDCWD, path, h->root_fd, CHECKPOINT_KEY, AT_SYMLINK_FOLLOW) < 0 && errno != EEXIST)
		r = -errno;
	r = r ?: fs_sync_dir(h->root_fd, ".");
	return r < 0 ? vps_err_sys(err, r, "make " CHECKPOINT_KEY) : 0;
}

static int mac_of(struct vps_host *h, const char *text, size_t len, bool make, char mac[DIGEST_MAC_LEN],
		  struct vps_err *err)
{
	unsigned char key[CHECKPOINT_KEY_LEN];
	int r = read_key(h, key, err);
	bool ok;

	if (r == -ENOENT && make) {
		r = make_key(h, err);
		r = r ?: read_key(h, key, err);
	}
	if (r == -ENOENT)
		return vps_err_set(err, VPS_EDIGEST, "this host has no key yet: the checkpoint was not made by it");
	if (r < 0)
		return r;
	ok = digest_mac(key, sizeof(key), text, len, mac);
	explicit_bzero(key, sizeof(key));
	return ok ? 0 : vps_err_sys(err, -ENOMEM, "checkpoint");
}

/* ---- files ------------------------------------------------------------------------------ */

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

struct checkpoint_sum {
	char *name;
	uint64_t ino, size;
	int64_t ctime; /* ns */
	char digest[DIGEST_LEN];
};

void checkpoint_sums_done(struct checkpoint_sums *s)
{
	for (size_t i = 0; i < s->n; i++)
		free(s->v[i].name);
	free(s->v);
	*s = (struct checkpoint_sums){0};
}

/* Where name is, or belongs. */
static size_t sum_place(const struct checkpoint_sums *s, const char *name, bool *ret_there)
{
	size_t lo = 0, hi = s->n;

	*ret_there = false;
	while (lo < hi && !*ret_there) {
		size_t mid = (lo + hi) / 2;
		int c = strcmp(s->v[mid].name, name);

		*ret_there = c == 0;
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return hi;
}

static int64_t ctime_of(const struct stat *st)
{
	return st->st_ctim.tv_sec * 1000000000ll + st->st_ctim.tv_nsec;
}

static bool sum_known(const struct checkpoint_sums *s, const char *name, const struct stat *st, char digest[DIGEST_LEN])
{
	bool there;
	size_t i = sum_place(s, name, &there);

	if (!there || s->v[i].ino != st->st_ino || s->v[i].size != (uint64_t)st->st_size || s->v[i].ctime != ctime_of(st))
		return false;
	memcpy(digest, s->v[i].digest, DIGEST_LEN);
	return true;
}

static int sum_keep(struct checkpoint_sums *s, const char *name, const struct stat *st, const char digest[DIGEST_LEN])
{
	bool there;
	size_t i = sum_place(s, name, &there);

	if (!there) {
		char *copy = strdup(name);
		if (!copy || mem_grow(s->v, s->n, s->cap) < 0) {
			free(copy);
			return -ENOMEM;
		}
		memmove(s->v + i + 1, s->v + i, (s->n - i) * sizeof(*s->v));
		s->n++;
		s->v[i].name = copy;
	}
	s->v[i].ino = st->st_ino;
	s->v[i].size = (uint64_t)st->st_size;
	s->v[i].ctime = ctime_of(st);
	memcpy(s->v[i].digest, digest, DIGEST_LEN);
	return 0;
}

static int open_file(int dir, const char *name)
{
	return sys_openat2(dir, name, O_RDONLY | O_NONBLOCK | O_CLOEXEC, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
}

static int file_sum(int dir, const char *name, bool sync, struct checkpoint_sums *sums, char digest[DIGEST_LEN],
		    uint64_t *ret_size, struct vps_err *err)
{
	struct stat st = {0};
	autofree char *shown = str_escape(name);
	autoclose int fd = open_file(dir, name);
	int r = fd < 0 ? fd : fstat(fd, &st) < 0 ? -errno : S_ISREG(st.st_mode) ? 0 : -EBADMSG;

	if (r == 0 && sums && sum_known(sums, name, &st, digest)) {
		*ret_size = (uint64_t)st.st_size;
		return 0;
	}
	if (r == 0 && sync && fsync(fd) < 0)
		r = -errno;
	r = r ?: digest_of_fd(fd, digest, ret_size);
	if (r == 0 && sums)
		r = sum_keep(sums, name, &st, digest);
	return r < 0 ? vps_err_sys(err, r, "checkpoint file '%s'", shown ? shown : "?") : 0;
}

/* Of a round: all of it is files. */
static int list_round(int dir, const char *round, char ***names)
{
	autoclose int sub = openat(dir, round, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	auto_strv all = NULL;
	int r = sub < 0 ? -errno : fs_list(sub, ".", &all);

	for (char **n = all; r == 0 && n && *n; n++)
		if (!checkpoint_apart(*n))
			r = checkpoint_name_ok(*n) ? strv_addf(names, "%s/%s", round, *n) : -EBADMSG;
	return r;
}

static bool is_dir(int dir, const char *name)
{
	struct stat st;

	return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

static int list_files(int dir, char ***ret, struct vps_err *err)
{
	auto_strv all = NULL;
	auto_strv names = NULL;
	int r = fs_list(dir, ".", &all);

	for (char **n = all; r == 0 && n && *n; n++)
		if (checkpoint_round_name(*n, strlen(*n)) && is_dir(dir, *n))
			r = list_round(dir, *n, &names);
		else if (!checkpoint_apart(*n))
			r = checkpoint_name_ok(*n) ? strv_add(&names, *n) : -EBADMSG;
	if (r < 0)
		return vps_err_sys(err, r, "checkpoint");
	if (strv_len(names) > CHECKPOINT_FILES)
		return vps_err_set(err, VPS_ERESOURCE, "the checkpoint has more than %u files", CHECKPOINT_FILES);
	if (names)
		qsort(names, strv_len(names), sizeof(*names), by_name);
	*ret = take_ptr(names);
	return 0;
}

int checkpoint_sums_make(struct checkpoint_sums *s, int dir, struct vps_err *err)
{
	auto_strv names = NULL;
	int r = list_files(dir, &names, err);

	/* a ctime is a tick old, which is 10 ms at most: nothing is written to dir meanwhile */
	nanosleep(&(struct timespec){.tv_nsec = SLACK_NS}, NULL);
	for (char **n = names; r == 0 && n && *n; n++) {
		char digest[DIGEST_LEN];
		uint64_t size;

		r = file_sum(dir, *n, false, s, digest, &size, err);
	}
	return r;
}

/* ---- sealing --------------------------------------------------------------------------------- */

static int add_file(struct json_out *o, int dir, const char *name, struct checkpoint_sums *sums, struct vps_err *err)
{
	char digest[DIGEST_LEN];
	uint64_t size;
	int r = file_sum(dir, name, !sums, sums, digest, &size, err);

	if (r < 0)
		return r;
	jo_object(o, NULL);
	jo_str(o, "name", name);
	jo_u64(o, "size", size);
	jo_str(o, "digest", digest);
	jo_end_object(o);
	return 0;
}

static int write_manifest(const struct vps_spec *s, uint64_t ran, int dir, struct checkpoint_sums *sums,
			  const struct progress *p, struct strbuf *sb, struct vps_err *err)
{
	struct json_out o = JSON_OUT(sb, true);
	auto_strv names = NULL;
	struct utsname u;
	size_t n = 0, total;
	int r = list_files(dir, &names, err);

	if (r < 0)
		return r;
	if (uname(&u) < 0)
		u.release[0] = '\0';
	jo_object(&o, NULL);
	jo_int(&o, "version", CHECKPOINT_VERSION);
	jo_str(&o, "isolation", spec_isolation_name(s->isolation));
	jo_str(&o, "uuid", s->uuid);
	jo_u64(&o, "created", (uint64_t)time(NULL));
	jo_u64(&o, "ran", ran);
	jo_str(&o, "kernel", u.release);
	jo_array(&o, "files");
	total = strv_len(names);
	for (char **f = names; r == 0 && f && *f; f++) {
		if (progress_tell(p, 0, "seal", n++, total))
			return vps_err_set(err, VPS_EINTERRUPTED, "interrupted");
		r = add_file(&o, dir, *f, sums, err);
	}
	jo_end_array(&o);
	jo_end_object(&o);
	sb_addc(sb, '\n');
	if (r < 0)
		return r;
	progress_tell(p, 0, "seal", total, total);
	r = sb_ok(sb);
	return r < 0 ? vps_err_sys(err, r, "checkpoint") : 0;
}

int checkpoint_seal(struct vps_host *h, const struct vps_spec *s, uint64_t ran, int dir, struct checkpoint_sums *sums,
		    const struct progress *p, struct vps_err *err)
{
	auto_strbuf sb = STRBUF_INIT;
	char mac[DIGEST_MAC_LEN];
	int r = write_manifest(s, ran, dir, sums, p, &sb, err);

	r = r ?: mac_of(h, sb.s, sb.len, true, mac, err);
	if (r < 0)
		return r;
	r = (sums ? fs_write_rename : fs_write_atomic)(dir, CHECKPOINT_MANIFEST, sb.s, sb.len, 0600);
	r = r ?: (sums ? fs_write_rename : fs_write_atomic)(dir, CHECKPOINT_MAC, mac, strlen(mac), 0600);
	return r < 0 ? vps_err_sys(err, r, "seal the checkpoint") : 0;
}

/* ---- verifying --------------------------------------------------------------------------------- */

/* line: "name\tsize\tdigest", as the manifest has it. */
static int check_file(int dir, char *line, struct checkpoint_sums *sums, struct vps_err *err)
{
	char *rest = line, digest[DIGEST_LEN];
	const char *name = strsep(&rest, "\t"), *size = strsep(&rest, "\t");
	autofree char *shown = str_escape(name);
	uint64_t want, have;
	int r = parse_u64(size, UINT64_MAX, &want) < 0 ? -EBADMSG : file_sum(dir, name, false, sums, digest, &have, err);

	if (r == -ENOENT || r == -EBADMSG || (r == 0 && (want != have || !str_eq(digest, rest)))) {
		vps_err_clear(err);
		return vps_err_set(err, VPS_EDIGEST, "checkpoint file '%s' is not what was written", shown ? shown : "?");
	}
	return r;
}

static int check_files(int dir, char **files, struct checkpoint_sums *sums, const struct progress *p,
		       struct vps_err *err)
{
	auto_strv there = NULL;
	size_t n = 0, total = strv_len(files);
	int r = list_files(dir, &there, err);

	if (r == 0 && strv_len(there) != total)
		return vps_err_set(err, VPS_EDIGEST, "the checkpoint has %zu files, and its manifest names %zu",
				   strv_len(there), total);
	for (char **f = files; r == 0 && f && *f; f++) {
		if (progress_tell(p, 0, "verify", n++, total))
			return vps_err_set(err, VPS_EINTERRUPTED, "interrupted");
		r = check_file(dir, *f, sums, err);
	}
	if (r == 0)
		progress_tell(p, 0, "verify", total, total);
	return r;
}

static int read_manifest(int dir, char **ret, size_t *ret_len, struct vps_err *err)
{
	int r = fs_read(dir, CHECKPOINT_MANIFEST, MANIFEST_MAX, ret, ret_len);

	return r < 0 ? vps_err_set(err, VPS_EDIGEST, "the checkpoint has no manifest: %s", vps_code_str(r)) : 0;
}

static int check_mac(struct vps_host *h, int dir, const char *text, size_t len, struct vps_err *err)
{
	char want[DIGEST_MAC_LEN], have[DIGEST_MAC_LEN + 1] = {0};
	int r = mac_of(h, text, len, false, want, err);

	if (r < 0)
		return r;
	if (fs_read_buf(dir, CHECKPOINT_MAC, have, sizeof(have)) != DIGEST_MAC_LEN - 1 || !digest_mac_equal(want, have))
		return vps_err_set(err, VPS_EDIGEST, "the checkpoint was changed, or was not made by this host");
	return 0;
}

int checkpoint_verify(struct vps_host *h, const struct vps_spec *s, int dir, struct checkpoint_sums *sums,
		      const struct progress *p, struct checkpoint_info *ret, struct vps_err *err)
{
	autofree char *text = NULL;
	auto_strv files = NULL;
	struct checkpoint_info i;
	size_t len;
	int r = read_manifest(dir, &text, &len, err);

	r = r ?: check_mac(h, dir, text, len, err);
	r = r ?: checkpoint_parse(text, len, &i, &files, err);
	if (r == 0 && !str_eq(i.uuid, s->uuid))
		return vps_err_set(err, VPS_EUSAGE, "the checkpoint is of another VPS (%s)", i.uuid);
	if (r == 0 && i.machine != (s->isolation == ISOLATION_VM))
		return vps_err_set(err, VPS_EUSAGE, "the checkpoint is of a VPS behind the other wall");
	r = r ?: check_files(dir, files, sums, p, err);
	if (r == 0 && ret)
		*ret = i;
	return r;
}

int checkpoint_adopt(struct vps_host *h, const struct vps_spec *s, int dir, struct checkpoint_sums *sums,
		     const struct progress *p, struct vps_err *err)
{
	autofree char *text = NULL;
	auto_strv files = NULL;
	struct checkpoint_info i;
	size_t len;
	int r = read_manifest(dir, &text, &len, err);

	r = r ?: checkpoint_parse(text, len, &i, &files, err);
	if (r == 0 && i.machine != (s->isolation == ISOLATION_VM))
		return vps_err_set(err, VPS_EUSAGE, "the checkpoint is of a VPS behind the other wall");
	r = r ?: check_files(dir, files, sums, p, err);
	return r ?: checkpoint_seal(h, s, i.ran, dir, sums, NULL, err);
}
