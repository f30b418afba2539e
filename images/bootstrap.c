/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An image from a Debian mirror, by mmdebstrap(1). It writes a tar into an unnamed file; only when it
 * ended well is that imported, so half an image never gets a name. Its working tree lies in
 * /var/tmp/vps-bootstrap.*: apt drops its privileges for the network, and its user could not enter
 * the image store, which is 0700. The folder is owned by an flock: with its process it is dead, and
 * the next bootstrap removes it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/str.h"
#include "images/store.h"

#define TMP_DIR	   "/var/tmp"
#define TMP_PREFIX "vps-bootstrap."
#define LOG_MAX	   (16u << 20)

/* What a VPS needs beyond the essential packages: an init that runs in a container, logins, the
 * network's tools, cron; no kernel, no udev, nothing that listens. */
#define VPS_PACKAGES "systemd,systemd-sysv,dbus,libpam-systemd,login,passwd,procps,iproute2," \
		     "iputils-ping,ifupdown,netbase,ca-certificates,cron,less"

/* Constant text only: mmdebstrap hands these to a shell, with the root as $1. */
static const char *const hooks[] = {
	/* An identity is made at the first boot, not shared by every VPS of the image. */
	": >\"$1/etc/machine-id\"; rm -f \"$1/var/lib/dbus/machine-id\"",
	"rm -f \"$1\"/etc/ssh/ssh_host_*_key*",
	/* sshd makes its keys when there are none; the packages only do at installation. */
	"if [ -x \"$1/usr/sbin/sshd\" ]; then mkdir -p \"$1/etc/systemd/system/ssh.service.d\" && "
	"printf '[Service]\\nExecStartPre=\\nExecStartPre=/usr/bin/ssh-keygen -A\\n"
	"ExecStartPre=/usr/sbin/sshd -t\\n' >\"$1/etc/systemd/system/ssh.service.d/host-keys.conf\"; fi",
	/* mmdebstrap copies these two from the host. */
	"echo localhost >\"$1/etc/hostname\"; rm -f \"$1/etc/resolv.conf\"; : >\"$1/etc/resolv.conf\"",
	"printf '127.0.0.1\\tlocalhost\\n::1\\tlocalhost ip6-localhost ip6-loopback\\n' >\"$1/etc/hosts\"",
	"cd \"$1/var/log\" && rm -f bootstrap.log dpkg.log alternatives.log apt/*.log",
	"rm -f \"$1/var/lib/systemd/random-seed\"",
};

/* ---- options -------------------------------------------------------------- */

static bool only(const char *s, const char *extra)
{
	for (; *s; s++)
		if (!((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') ||
		      (*s >= '0' && *s <= '9') || strchr(extra, *s)))
			return false;
	return true;
}

static int check(const struct img_bootstrap_opts *b, struct vps_err *err)
{
	static const char *const variants[] = {"minbase", "apt", "required", "important", "standard",
					       "buildd", "debootstrap", "-", "essential", NULL};
	bool known = !b->variant;

	for (size_t i = 0; variants[i]; i++)
		known = known || str_eq(b->variant, variants[i]);
	if (!b->suite || !*b->suite || *b->suite == '-' || !only(b->suite, ".-_/"))
		return vps_err_set(err, VPS_EUSAGE, "that is not the name of a suite");
	if (!known)
		return vps_err_set(err, VPS_EUSAGE,
				   "unknown variant; minbase, apt, required, important, standard, …");
	/* Not all that mmdebstrap takes: no apt patterns, no files. */
	if (b->include && !only(b->include, "+.,:=~_-"))
		return vps_err_set(err, VPS_EUSAGE, "--include: package names with commas between");
	if (b->components && !only(b->components, ".,_/-"))
		return vps_err_set(err, VPS_EUSAGE, "--components: names with commas between");
	if (b->mirror && !str_starts(b->mirror, "http://") && !str_starts(b->mirror, "https://") &&
	    !str_starts(b->mirror, "file:/") && !str_starts(b->mirror, "deb "))
		return vps_err_set(err, VPS_EUSAGE, "--mirror: a URL or a 'deb …' line");
	if (b->mirror && strpbrk(b->mirror, "\n\r"))
		return vps_err_set(err, VPS_EUSAGE, "--mirror: one line");
	return 0;
}

/* OCI words to dpkg's where they differ. */
static const char *dpkg_arch(const char *oci)
{
	return str_eq(oci, "386") ? "i386" : str_eq(oci, "arm") ? "armhf" :
	       str_eq(oci, "ppc64le") ? "ppc64el" : oci;
}

static int make_argv(const struct img_bootstrap_opts *b, const char *arch, int log, char ***ret)
{
	/* In namespaces of its own, mounts and processes die with us, however we do: killed alone,
	 * mmdebstrap would leave apt and dpkg at work. */
	static const char *const head[] = {"unshare", "--mount", "--pid", "--fork", "--kill-child",
					   "--", "mmdebstrap", "--format=tar"};
	auto_strv v = NULL;
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_LEN(head); i++)
		r = strv_add(&v, head[i]);
	if (r == 0)
		r = strv_addf(&v, "--logfile=/proc/%d/fd/%d", (int)getpid(), log);
	if (r == 0)
		r = strv_addf(&v, "--variant=%s", b->variant ? b->variant :
			      b->bare ? "apt" : "minbase");
	if (r == 0 && !b->bare)
		r = strv_add(&v, "--include=" VPS_PACKAGES);
	if (r == 0 && b->include && *b->include)
		r = strv_addf(&v, "--include=%s", b->include);
	if (r == 0 && b->components)
		r = strv_addf(&v, "--components=%s", b->components);
	/* Another one needs its emulator registered; our own needs nothing. */
	if (r == 0 && !str_eq(arch, img_arch()))
		r = strv_addf(&v, "--architectures=%s", dpkg_arch(arch));
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(hooks); i++)
		r = strv_addf(&v, "--customize-hook=%s", hooks[i]);
	if (r == 0)
		r = strv_add(&v, b->suite);
	if (r == 0)
		r = strv_add(&v, "-");
	if (r == 0 && b->mirror)
		r = strv_add(&v, b->mirror);
	if (r == 0)
		*ret = take_ptr(v);
	return r;
}

/* ---- the working folder --------------------------------------------------- */

/* Folders of dead bootstraps. /var/tmp is everybody's: only what is a directory of root's counts. */
static void clean_old(int tmp)
{
	auto_strv names = NULL;

	if (fs_list(tmp, ".", &names) < 0)
		return;
	for (size_t i = 0; names && names[i]; i++) {
		struct stat st;

		if (!str_starts(names[i], TMP_PREFIX))
			continue;
		autoclose int fd = openat(tmp, names[i],
					  O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd >= 0 && fstat(fd, &st) == 0 && st.st_uid == 0 &&
		    flock(fd, LOCK_EX | LOCK_NB) == 0)
			(void)fs_remove_tree(tmp, names[i]);
	}
}

struct folder {
	int tmp, fd; /* -1: none */
	char path[64];
};

static void folder_done(struct folder *f)
{
	if (f->fd >= 0)
		(void)fs_remove_tree(f->tmp, f->path + strlen(TMP_DIR "/"));
	close_fd(&f->fd);
	close_fd(&f->tmp);
}

static int folder_make(struct folder *f, struct vps_err *err)
{
	f->tmp = fs_open_dir(AT_FDCWD, TMP_DIR);
	if (f->tmp < 0)
		return vps_err_sys(err, f->tmp, TMP_DIR);
	clean_old(f->tmp);
	strcpy(f->path, TMP_DIR "/" TMP_PREFIX "XXXXXX");
	if (!mkdtemp(f->path))
		return vps_err_sys(err, -errno, "folder in " TMP_DIR);
	f->fd = fs_open_dir(AT_FDCWD, f->path);
	/* A cleaner that was quicker with the lock takes an empty folder away: next try. */
	if (f->fd < 0 || flock(f->fd, LOCK_EX | LOCK_NB) < 0 || fchmod(f->fd, 0755) < 0)
		return vps_err_sys(err, f->fd < 0 ? f->fd : -errno, "%s", f->path);
	return 0;
}

static int unnamed_file(int dir, struct vps_err *err)
{
	int fd = openat(dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	return fd < 0 ? vps_err_sys(err, -errno, "temporary file") : fd;
}

/* ---- running it ----------------------------------------------------------- */

static bool has_any(const char *text, const char *const *words)
{
	for (; *words; words++)
		if (strstr(text, *words))
			return true;
	return false;
}

/* apt's own complaints, not the frames that mmdebstrap puts around them. */
static void complaints(char *log, struct strbuf *sb)
{
	static const char *const frames[] = {"mmdebstrap failed", "setup failed", "apt-get update --",
					     "Some index files failed", NULL};
	char *save = NULL;
	unsigned n = 0;

	for (char *l = strtok_r(log, "\n", &save); l && n < 3; l = strtok_r(NULL, "\n", &save)) {
		if (!str_starts(l, "E: ") || has_any(l, frames))
			continue;
		if (n++)
			sb_add(sb, "; ");
		sb_add_escaped(sb, l + 3, strnlen(l + 3, 200));
	}
}

static int explain(int log, int status, const struct vps_err *why, struct vps_err *err)
{
	static const char *const net[] = {
		"Could not connect", "Could not resolve", "Temporary failure resolving",
		"Unable to connect", "onnection timed out", "Connection failed", "Network is unreachable",
		"Connection refused", "certificate", NULL};
	static const char *const keys[] = {"NO_PUBKEY", "is not signed", "EXPKEYSIG",
					   "couldn't be verified", NULL};
	static const char *const full[] = {"No space left on device", NULL};
	static const char *const absent[] = {"does not have a Release file", "Unable to locate package",
					     "has no installation candidate", NULL};
	autofree char *text = NULL;
	auto_strbuf said = STRBUF_INIT;

	if (status < 0)
		return vps_err_set(err, why->code ? why->code : -status, "%s", why->msg);
	if (lseek(log, 0, SEEK_SET) < 0 || fs_read_fd(log, LOG_MAX, &text, NULL) < 0)
		return vps_err_set(err, EIO, "%s", why->msg);
	int code = has_any(text, net) ? VPS_ENET : has_any(text, full) ? VPS_ERESOURCE :
		   has_any(text, absent) ? VPS_EUSAGE : has_any(text, keys) ? VPS_EAUTH : EIO;
	complaints(text, &said);
	return vps_err_set(err, code, "%s%s", said.len ? said.s : why->msg,
			   code == VPS_EAUTH ? " (the suite's keyring is missing? Debian's: package "
			   "debian-archive-keyring)" : "");
}

static int run(const struct img_bootstrap_opts *b, const char *arch, struct folder *f, int out,
	       struct vps_err *err)
{
	auto_strv argv = NULL;
	auto_strv env = NULL;
	struct vps_err why = {0};
	autoclose int log = unnamed_file(f->fd, err);

	if (log < 0)
		return log;
	static const char *const keep[] = {"PATH", "http_proxy", "https_proxy", "no_proxy"};
	int r = make_argv(b, arch, log, &argv);
	if (r == 0)
		r = strv_addf(&env, "TMPDIR=%s", f->path);
	if (r == 0)
		r = strv_add(&env, "LC_ALL=C.UTF-8");
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(keep); i++)
		if (getenv(keep[i]))
			r = strv_addf(&env, "%s=%s", keep[i], getenv(keep[i]));
	if (r < 0)
		return vps_err_sys(err, r, "mmdebstrap");
	struct proc_opts o = PROC_OPTS_INIT;
	o.out_fd = out;
	o.env = env;
	r = proc_run(argv, &o, &why);
	return r == 0 ? 0 : explain(log, r, &why, err);
}

int img_bootstrap(struct img_store *s, const struct img_bootstrap_opts *b, const char *ref,
		  const struct img_opts *o, struct img_info *ret, struct vps_err *err)
{
	struct img_opts opts = img_opts_fill(o);
	auto_done(folder_done) struct folder f = {.tmp = -1, .fd = -1};
	autofree char *tool = proc_find("mmdebstrap");

	int r = check(b, err);
	if (r == 0)
		r = img_ref_check(ref, err);
	if (r < 0)
		return r;
	if (!tool)
		return vps_err_set(err, VPS_EUNSUPPORTED, "mmdebstrap is missing; install it with "
				   "apt-get install mmdebstrap");
	r = folder_make(&f, err);
	if (r < 0)
		return r;
	autoclose int out = unnamed_file(s->tmp, err);
	if (out < 0)
		return out;
	if (progress_tell(opts.progress, 0, "bootstrap", 0, 0))
		return vps_err_set(err, VPS_EINTERRUPTED, "stopped");
	r = run(b, opts.arch, &f, out, err);
	if (r < 0)
		return vps_err_wrap(err, r, "bootstrap %s", b->suite);
	progress_tell(opts.progress, 0, "bootstrap", 1, 1);
	folder_done(&f);
	if (lseek(out, 0, SEEK_SET) < 0)
		return vps_err_sys(err, -errno, "read the new root");
	return img_import_rootfs_fd(s, out, ref, o, ret, err);
}
