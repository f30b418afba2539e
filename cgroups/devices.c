/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The device allow list: merged rules, then BPF (v2) or devices.allow/deny (v1,
 * Documentation/admin-guide/cgroup-v1/devices.rst). */
#include "cgroups/internal.h"

#include <fcntl.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <string.h>

#include "base/fs.h"

#define MAJOR_MAX 4095	  /* MINORBITS is 20 */
#define MINOR_MAX 1048575
#define ALL_ACCESS (BPF_DEVCG_ACC_MKNOD | BPF_DEVCG_ACC_READ | BPF_DEVCG_ACC_WRITE)

static const struct {
	char letter;
	unsigned bit;
} access_bits[] = { { 'r', BPF_DEVCG_ACC_READ },
		    { 'w', BPF_DEVCG_ACC_WRITE },
		    { 'm', BPF_DEVCG_ACC_MKNOD } };

/* 0 for a word that is empty or has anything but r, w, m. */
static unsigned parse_access(const char *s, size_t max)
{
	unsigned mask = 0;
	for (size_t i = 0; i < max && s[i]; i++) {
		unsigned bit = 0;
		for (size_t k = 0; k < ARRAY_LEN(access_bits); k++)
			if (access_bits[k].letter == s[i])
				bit = access_bits[k].bit;
		if (!bit)
			return 0;
		mask |= bit;
	}
	return mask;
}

static int check_rule(const struct cg_device *d, struct vps_err *err)
{
	if (!d->type || !strchr("abc", d->type))
		return vps_err_set(err, VPS_EUSAGE, "device rule: the type must be c, b or a");
	if (d->major < -1 || d->major > MAJOR_MAX || d->minor < -1 || d->minor > MINOR_MAX)
		return vps_err_set(err, VPS_EUSAGE, "device rule %c %d:%d: major 0..%d and minor "
				   "0..%d, or -1 for any", d->type, d->major, d->minor, MAJOR_MAX,
				   MINOR_MAX);
	if (!parse_access(d->access, sizeof(d->access)))
		return vps_err_set(err, VPS_EUSAGE, "device rule %c %d:%d '%.4s': the access must "
				   "be of r, w and m", d->type, d->major, d->minor, d->access);
	return 0;
}

struct rules {
	struct cg_devrule *v;
	size_t n, cap;
};

static void rules_done(struct rules *l)
{
	free(l->v);
}

static struct cg_devrule *find_rule(const struct rules *l, char type, int major, int minor)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->v[i].type == type && l->v[i].major == major && l->v[i].minor == minor)
			return &l->v[i];
	return NULL;
}

static int add_rule(struct rules *l, char type, int major, int minor, unsigned access)
{
	struct cg_devrule *same = find_rule(l, type, major, minor);
	if (same) {
		same->access |= access;
		return 0;
	}
	if (mem_grow(l->v, l->n, l->cap) < 0)
		return -ENOMEM;
	l->v[l->n++] = (struct cg_devrule){ type, major, minor, access };
	return 0;
}

int cg_devices_merge(const struct cg_device *rules, size_t n, struct cg_devrule **ret,
		     size_t *ret_n, struct vps_err *err)
{
	auto_done(rules_done) struct rules l = { 0 };
	if (n > CG_DEVICES_MAX)
		return vps_err_set(err, VPS_EUSAGE, "%zu device rules: at most %d are taken", n,
				   CG_DEVICES_MAX);
	for (size_t i = 0; i < n; i++) {
		const struct cg_device *d = &rules[i];
		int r = check_rule(d, err);
		if (r < 0)
			return r;
		unsigned access = parse_access(d->access, sizeof(d->access));
		if (d->type == 'a' && d->major < 0 && d->minor < 0 && access == ALL_ACCESS) {
			l.n = 0; /* everything: no other rule adds to it */
			r = add_rule(&l, 'a', -1, -1, access);
			i = n;
		} else if (d->type == 'a') {
			r = add_rule(&l, 'c', d->major, d->minor, access);
			if (r == 0)
				r = add_rule(&l, 'b', d->major, d->minor, access);
		} else {
			r = add_rule(&l, d->type, d->major, d->minor, access);
		}
		if (r < 0)
			return vps_err_sys(err, r, "device rules");
	}
	*ret = take_ptr(l.v);
	*ret_n = l.n;
	return 0;
}

/* ---- v1 */

/* "c 1:3 rwm", "b 8:* r", "a *:* rwm" */
static int parse_v1_line(const char *line, struct rules *l)
{
	char type, major[12], minor[12], access[8];
	if (sscanf(line, "%c %11[0-9*]:%11[0-9*] %7s", &type, major, minor, access) != 4)
		return -EBADMSG;
	return add_rule(l, type, *major == '*' ? -1 : atoi(major), *minor == '*' ? -1 : atoi(minor),
			parse_access(access, sizeof(access)));
}

static int read_v1(const struct cg *cg, const struct cg_hier *hi, struct rules *l)
{
	char path[CG_PATH_MAX];
	autofree char *text = NULL;
	snprintf(path, sizeof(path), "%s/devices.list", cg->name);
	int r = fs_read(hi->tag_fd, path, 1u << 20, &text, NULL);
	char *save = NULL;
	for (char *line = r < 0 ? NULL : strtok_r(text, "\n", &save); line && r >= 0;
	     line = strtok_r(NULL, "\n", &save))
		r = parse_v1_line(line, l);
	return r;
}

static int write_v1(int fd, const struct cg_devrule *d, unsigned access)
{
	char major[12] = "*", minor[12] = "*", word[4] = "", line[64];
	size_t n = 0;
	if (d->major >= 0)
		snprintf(major, sizeof(major), "%d", d->major);
	if (d->minor >= 0)
		snprintf(minor, sizeof(minor), "%d", d->minor);
	for (size_t i = 0; i < ARRAY_LEN(access_bits); i++)
		if (access & access_bits[i].bit)
			word[n++] = access_bits[i].letter;
	int len = snprintf(line, sizeof(line), "%c %s:%s %s", d->type, major, minor, word);
	return write(fd, line, (size_t)len) < 0 ? -errno : 0;
}

/* Access bits of a that b lacks, rule by rule. */
static int write_difference(const struct cg *cg, const struct cg_hier *hi, const char *file,
			    const struct rules *a, const struct rules *b)
{
	autoclose int fd = a->n ? cg_file_open(cg, hi, file, O_WRONLY) : -1;
	if (a->n && fd < 0)
		return fd;
	for (size_t i = 0; i < a->n; i++) {
		const struct cg_devrule *d = &a->v[i];
		const struct cg_devrule *other = find_rule(b, d->type, d->major, d->minor);
		unsigned access = d->access & ~(other ? other->access : 0);
		int r = access ? write_v1(fd, d, access) : 0;
		if (r < 0)
			return r;
	}
	return 0;
}

static bool allows_all(const struct rules *l)
{
	return l->n && l->v[0].type == 'a';
}

/* Allow what is new, then deny what is gone, so that a running VPS never lacks a device that it
 * keeps. Only from "everything" there is no such way: all is denied for an instant. */
static int set_v1(const struct cg *cg, const struct cg_hier *hi, const struct rules *want)
{
	auto_done(rules_done) struct rules have = { 0 };
	int r = read_v1(cg, hi, &have);
	if (r < 0)
		return r;
	if (allows_all(want))
		return allows_all(&have) ? 0 : cg_file_write(cg, hi, "devices.allow", "a");
	if (allows_all(&have)) {
		r = cg_file_write(cg, hi, "devices.deny", "a");
		if (r < 0)
			return r;
		have.n = 0;
	}
	r = write_difference(cg, hi, "devices.allow", want, &have);
	return r < 0 ? r : write_difference(cg, hi, "devices.deny", &have, want);
}

int cg_devices_set(struct cg *cg, const struct cg_device *rules, size_t n, struct vps_err *err)
{
	auto_done(rules_done) struct rules want = { 0 };
	int r = cg_devices_merge(rules, n, &want.v, &want.n, err);
	if (r < 0)
		return r;
	const struct cg_hier *hi = cg->h->where[CG_DEVICES];
	if (hi->version == 2)
		return cg_devbpf_attach(cg->v2_fd, want.v, want.n, err);
	r = set_v1(cg, hi, &want);
	return r < 0 ? vps_err_sys(err, r, "set the device rules of '%s'", cg->name) : 0;
}
