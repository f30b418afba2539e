/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The verbs, each in its own file of the same name; cli/verbs.c puts them into the table. */
#ifndef VPS_CLI_VERBS_H
#define VPS_CLI_VERBS_H

#include "cli/cli.h"

int verb_create(struct cli *c);
int verb_launch(struct cli *c);
int verb_run(struct cli *c);
int verb_start(struct cli *c);
int verb_stop(struct cli *c);
int verb_restart(struct cli *c);
int verb_kill(struct cli *c);
int verb_pause(struct cli *c);
int verb_unpause(struct cli *c);
int verb_suspend(struct cli *c);
int verb_resume(struct cli *c);
int verb_check(struct cli *c);
int verb_delete(struct cli *c);
int verb_rename(struct cli *c);
int verb_rebuild(struct cli *c);
int verb_set(struct cli *c);
int verb_list(struct cli *c);
int verb_status(struct cli *c);
int verb_inspect(struct cli *c);
int verb_exec(struct cli *c);
int verb_enter(struct cli *c);
int verb_console(struct cli *c);
int verb_logs(struct cli *c);
int verb_cp(struct cli *c);
int verb_top(struct cli *c);
int verb_stats(struct cli *c);
int verb_events(struct cli *c);
int verb_wait(struct cli *c);
int verb_completion(struct cli *c);
int verb_help(struct cli *c);
int verb_version(struct cli *c);
int verb_complete(struct cli *c); /* hidden: words for the completion */
const char *list_column(size_t i); /* the columns of list; NULL after the last */

int verb_host_check(struct cli *c);
int verb_host_gc(struct cli *c);
int verb_host_start_all(struct cli *c);
int verb_host_stop_all(struct cli *c);

int verb_migrate(struct cli *c);
int verb_receive(struct cli *c);

int verb_image_import(struct cli *c);
int verb_image_pull(struct cli *c);
int verb_image_bootstrap(struct cli *c);
int verb_image_list(struct cli *c);
int verb_image_inspect(struct cli *c);
int verb_image_tag(struct cli *c);
int verb_image_remove(struct cli *c);
int verb_image_gc(struct cli *c);
int verb_image_export(struct cli *c);
int verb_image_publish(struct cli *c);
int verb_clone(struct cli *c);
int verb_backup(struct cli *c);
int verb_restore(struct cli *c);

int verb_snapshot_create(struct cli *c);
int verb_snapshot_list(struct cli *c);
int verb_snapshot_show(struct cli *c);
int verb_snapshot_restore(struct cli *c);
int verb_snapshot_delete(struct cli *c);
int verb_snapshot_run(struct cli *c);

/* Hidden: what the monitor asks for. */
int verb_restart_by_monitor(struct cli *c);
int verb_teardown_by_monitor(struct cli *c);
int verb_thaw_by_monitor(struct cli *c);
int verb_lxcfs_heal(struct cli *c);

extern const struct cli_opt create_opts[], launch_opts[], run_opts[], list_opts[], start_opts[],
	suspend_opts[], resume_opts[], check_opts[],
	stop_opts[], restart_opts[], kill_opts[], all_opts[], delete_opts[], rebuild_opts[],
	exec_opts[], logs_opts[], cp_opts[], top_opts[], stats_opts[], events_opts[], wait_opts[],
	console_opts[], set_opts[], status_opts[], image_import_opts[], image_pull_opts[],
	image_bootstrap_opts[], image_export_opts[], image_remove_opts[], image_gc_opts[],
	image_list_opts[], host_gc_opts[], host_all_opts[], snapshot_create_opts[], snapshot_list_opts[],
	snapshot_restore_opts[], clone_opts[], image_publish_opts[], backup_opts[], restore_opts[], migrate_opts[];

#endif
