// SPDX-License-Identifier: GPL-2.0-or-later
/* What migrations left behind, for host check and gc. */
#include <sys/stat.h>
#include <time.h>

#include "base/fs.h"
#include "runtime/hostcheck.h"
#include "runtime/migrate/record.h"

#define KEEP_DAYS 7 /* what has come of a migration that nobody went on with */

static int mend(struct check *c, unsigned id, struct vps_err *err)
{
	auto_locked l = VPS_LOCKED_INIT;
	char who[ID_STR];
	int r = vps_lock(c->h, id_str(id, who), "gc", &l, err);

	return r == -VPS_ENOVPS ? 0 : r; /* it had moved, and now is gone from here */
}

/* A process that lives is at it. */
static bool at_work(int dir)
{
	autoclose int lock = lock_take(dir, HO_LOCK, true, LOCK_TRY);

	return lock == -EWOULDBLOCK;
}

static void check_record(struct check *c, unsigned id)
{
	autoclose int dir = store_dir(c->h, id);
	auto_ho_file f = {0};
	struct vps_err err = {0};

	if (dir < 0 || ho_file_read(dir, &f, NULL) < 0 || at_work(dir))
		return;
	if (f.rec.phase == HO_COMMITTED)
		check_add(c, CHECK_NOTE, id, "`vps migrate --continue` asks again",
			  "handed over to %s, which has not confirmed it", f.peer ? f.peer : "another host");
	else if (f.rec.phase == HO_PREPARED)
		check_add(c, CHECK_NOTE, id, "`vps migrate --continue` there decides, or the next `vps migrate`",
			  "it has come from %s, which has not said whether it is this host's", f.peer ? f.peer : "another host");
	else if (!ho_wants_recovery(f.rec.phase) || (f.rec.phase == HO_GONE && f.keep))
		return;
	else if (!c->fix || mend(c, id, &err) < 0)
		check_add(c, CHECK_LEFTOVER, id, c->fix ? err.msg : "`vps host gc`, or any command for it, ends it",
			  "a migration that was cut off");
	else
		check_add(c, CHECK_FIXED, id, NULL, "a migration that was cut off");
}

/* 1: too old to be gone on with, and (fix) removed. */
static int check_incoming(struct vps_host *h, const char *uuid, bool fix)
{
	autofree char *path = str_fmt(INCOMING "/%s", uuid);
	autoclose int dir = path ? fs_open_dir(h->root_fd, path) : -ENOMEM;
	autoclose int lock = -1;
	struct stat st;

	if (dir < 0 || fstat(dir, &st) < 0 || time(NULL) - st.st_mtime < KEEP_DAYS * 86400)
		return 0;
	lock = lock_take(dir, "lock", true, LOCK_TRY);
	if (lock < 0)
		return 0;
	if (fix && (img_disk_destroy(dir, DISK_AUTO, NULL) < 0 || fs_remove_tree(h->root_fd, path) < 0))
		return 0;
	return 1;
}

void check_migrations(struct check *c)
{
	auto_strv names = NULL;

	for (size_t i = 0; i < c->n_defined; i++)
		check_record(c, c->defined[i]);
	if (fs_list(c->h->root_fd, INCOMING, &names) < 0)
		return;
	for (char **p = names; p && *p; p++)
		if (check_incoming(c->h, *p, c->fix))
			check_add(c, c->fix ? CHECK_FIXED : CHECK_LEFTOVER, 0, c->fix ? NULL : "`vps host gc` removes it",
				  "files of a migration that nobody went on with for %d days", KEEP_DAYS);
}
