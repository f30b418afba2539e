/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table behind the parser, `vps help`, the man pages' synopsis and the completion. */
#include "cli/verbs.h"

/* Verbs about images need libcurl and libarchive, whose loading alone takes longer than starting a
 * VPS. `vps` is built without them and hands such a verb to vps-image, the same program with
 * everything linked in. */
#ifdef VPS_LIGHT
#define IMAGE_VERB(fn) cli_exec_image
#else
#define IMAGE_VERB(fn) fn
#endif

#define PROVISION "Provision"
#define LIFE	  "Life cycle"
#define INSIDE	  "Inside"
#define WATCH	  "Watch"
#define COPIES	  "Copies"
#define HOST	  "Host"

static const struct cli_verb image_verbs[] = {
	{"import", "load", PROVISION, "FILE|- [REF]",
	 "take in a root file system tar, docker-archive or OCI layout",
	 "FILE is a tar (plain, gz, xz or zst), an OCI layout directory, or - for standard input.\n"
	 "REF names the image (NAME[:TAG]) where FILE does not name itself.",
	 image_import_opts, false, 0, 1, 2, COMPLETE_FILE, NULL, IMAGE_VERB(verb_image_import)},
	{"pull", NULL, PROVISION, "HOST/PATH[:TAG|@DIGEST] [REF]", "fetch an image from a registry",
	 NULL, image_pull_opts, false, 0, 1, 2, COMPLETE_NONE, NULL, IMAGE_VERB(verb_image_pull)},
	{"bootstrap", NULL, PROVISION, "SUITE [REF]", "make a Debian image from a mirror", NULL,
	 image_bootstrap_opts, false, 0, 1, 2, COMPLETE_NONE, NULL,
	 IMAGE_VERB(verb_image_bootstrap)},
	{"list", "ls", PROVISION, "[PATTERN]", "list images", NULL, image_list_opts, false, 0, 0, 1,
	 COMPLETE_IMAGE, NULL, IMAGE_VERB(verb_image_list)},
	{"inspect", "show info", PROVISION, "REF...", "tell all about an image", NULL, NULL, false,
	 0, 1, -1, COMPLETE_IMAGE, NULL, IMAGE_VERB(verb_image_inspect)},
	{"tag", NULL, PROVISION, "REF NEW", "give an image another name", NULL, NULL, false, 0, 2,
	 2, COMPLETE_IMAGE, NULL, IMAGE_VERB(verb_image_tag)},
	{"remove", "rm delete", PROVISION, "REF...", "remove a name; gc removes what nothing uses",
	 NULL, image_remove_opts, false, 0, 1, -1, COMPLETE_IMAGE, NULL,
	 IMAGE_VERB(verb_image_remove)},
	{"gc", "prune", PROVISION, "", "remove layers and blobs that nothing uses", NULL,
	 image_gc_opts, false, 0, 0, 0, COMPLETE_NONE, NULL, IMAGE_VERB(verb_image_gc)},
	{"export", "save", PROVISION, "REF FILE|-",
	 "write an image as an OCI layout tar or docker-archive", NULL, image_export_opts, false, 0,
	 2, 2, COMPLETE_IMAGE, NULL, IMAGE_VERB(verb_image_export)},
	{"publish", NULL, PROVISION, "NAME REF", "make an image of a stopped VPS, or of a snapshot",
	 "Its image's layers and one more. Keys, ids and seeds that are the VPS's own are left out.", image_publish_opts,
	 false, 0, 2, 2, COMPLETE_VPS, NULL, IMAGE_VERB(verb_image_publish)},
	{0},
};

static const struct cli_verb host_verbs[] = {
	{"check", NULL, HOST, "", "what this host can do, and every leftover", NULL, NULL, false, 0,
	 0, 0, COMPLETE_NONE, NULL, verb_host_check},
	{"gc", "repair", HOST, "", "remove leftovers, mend the firewall", NULL, NULL, false, 0, 0,
	 0, COMPLETE_NONE, NULL, verb_host_gc},
	{"start-all", NULL, HOST, "", "start every VPS with autostart, by boot order", NULL,
	 host_all_opts, false, 0, 0, 0, COMPLETE_NONE, NULL, verb_host_start_all},
	{"stop-all", NULL, HOST, "", "stop every running VPS, in reverse boot order", NULL,
	 host_all_opts, false, 0, 0, 0, COMPLETE_NONE, NULL, verb_host_stop_all},
	{0},
};

static const struct cli_verb snapshot_verbs[] = {
	{"create", "take", COPIES, "NAME [SNAPSHOT]", "keep the disk as it is now, of a running VPS too",
	 "Of a running VPS the file system is frozen for an instant, so that the copy is consistent.",
	 snapshot_create_opts, false, 0, 1, 2, COMPLETE_VPS, NULL, verb_snapshot_create},
	{"list", "ls", COPIES, "NAME", "list its snapshots, oldest first", NULL, snapshot_list_opts, false, 0, 1, 1,
	 COMPLETE_VPS, NULL, verb_snapshot_list},
	{"show", "inspect info", COPIES, "NAME SNAPSHOT", "tell all about one", NULL, NULL, false, 0, 2, 2,
	 COMPLETE_VPS, NULL, verb_snapshot_show},
	{"restore", "rollback", COPIES, "NAME SNAPSHOT", "the disk as it was then; a running VPS is restarted",
	 "What is on the disk now is lost. Limits, addresses and all other settings stay.", snapshot_restore_opts,
	 false, 0, 2, 2, COMPLETE_VPS, NULL, verb_snapshot_restore},
	{"delete", "rm remove", COPIES, "NAME SNAPSHOT...", "remove snapshots", NULL, NULL, false, 0, 2, -1,
	 COMPLETE_VPS, NULL, verb_snapshot_delete},
	{"run", NULL, COPIES, "", "make what is scheduled and due, remove what has expired; for a timer", NULL, NULL,
	 false, 0, 0, 0, COMPLETE_NONE, NULL, verb_snapshot_run},
	{0},
};

const struct cli_verb cli_verbs[] = {
	{"image", "images", PROVISION, "ARG...", "images: import, pull, bootstrap, list, remove, …",
	 NULL, NULL, false, 0, 0, -1, COMPLETE_NONE, image_verbs, NULL},
	{"create", NULL, PROVISION, "NAME --image REF [-- COMMAND [ARG...]]",
	 "make a VPS from an image",
	 "NAME may be left out: one is made up. With a COMMAND the VPS runs that instead of the "
	 "image's init.",
	 create_opts, true, -1, 0, 1, COMPLETE_NONE, NULL, verb_create},
	{"launch", NULL, PROVISION, "NAME --image REF [-- COMMAND [ARG...]]", "create and start",
	 NULL, launch_opts, true, -1, 0, 1, COMPLETE_NONE, NULL, verb_launch},
	{"run", NULL, PROVISION, "[NAME] --image REF [-- COMMAND [ARG...]]",
	 "create, start, attach; exits with the command's status", NULL, run_opts, true, -1, 0, 1,
	 COMPLETE_NONE, NULL, verb_run},
	{"set", NULL, PROVISION, "NAME --OPTION VALUE...", "change settings, live where possible",
	 "What is set while the VPS runs takes effect at once. An empty value clears a setting.",
	 set_opts, true, 0, 1, 1, COMPLETE_VPS, NULL, verb_set},
	{"rename", NULL, PROVISION, "NAME NEW", "give a VPS another name", NULL, NULL, false, 0, 2,
	 2, COMPLETE_VPS, NULL, verb_rename},
	{"rebuild", "reinstall", PROVISION, "NAME",
	 "a fresh disk from the image; address and limits stay", NULL, rebuild_opts, false, 0, 1, 1,
	 COMPLETE_VPS_STOPPED, NULL, verb_rebuild},
	{"delete", "rm destroy remove", PROVISION, "NAME...", "remove VPSes and all that is theirs",
	 NULL, delete_opts, false, 0, 0, -1, COMPLETE_VPS, NULL, verb_delete},

	{"start", "boot", LIFE, "NAME...", "start VPSes", NULL, start_opts, false, 0, 0, -1,
	 COMPLETE_VPS_STOPPED, NULL, verb_start},
	{"stop", "shutdown", LIFE, "NAME...", "shut down; force after the timeout", NULL, stop_opts,
	 false, 0, 0, -1, COMPLETE_VPS_RUNNING, NULL, verb_stop},
	{"restart", "reboot", LIFE, "NAME...", "stop and start", NULL, restart_opts, false, 0, 0,
	 -1, COMPLETE_VPS_RUNNING, NULL, verb_restart},
	{"kill", NULL, LIFE, "NAME...", "send a signal to init (default KILL)", NULL, kill_opts,
	 false, 0, 0, -1, COMPLETE_VPS_RUNNING, NULL, verb_kill},
	{"pause", "freeze", LIFE, "NAME...", "freeze every process", NULL, all_opts, false, 0, 0,
	 -1, COMPLETE_VPS_RUNNING, NULL, verb_pause},
	{"unpause", "thaw unfreeze", LIFE, "NAME...", "let them run on", NULL, all_opts, false, 0,
	 0, -1, COMPLETE_VPS_RUNNING, NULL, verb_unpause},
	{"suspend", NULL, LIFE, "NAME...", "write the running VPS to the disk, and end it", NULL, suspend_opts, false, 0,
	 0, -1, COMPLETE_VPS_RUNNING, NULL, verb_suspend},
	{"resume", NULL, LIFE, "NAME...", "go on where it was suspended", NULL, resume_opts, false, 0, 0, -1,
	 COMPLETE_VPS_STOPPED, NULL, verb_resume},
	{"wait", NULL, LIFE, "NAME", "wait until a VPS is stopped, running or ready", NULL,
	 wait_opts, false, 0, 1, 1, COMPLETE_VPS, NULL, verb_wait},

	{"migrate", NULL, LIFE, "NAME... [USER@]HOST[:NEWNAME]", "move VPSes to another host",
	 "The other host is reached by a command (--rsh, default ssh) that runs 'vps receive' there. A running VPS is copied\n"
	 "while it runs; only for the rest it stands still. Whatever breaks, it runs on one host and never on both.",
	 migrate_opts, false, 0, 0, -1, COMPLETE_VPS, NULL, IMAGE_VERB(verb_migrate)},
	{"receive", NULL, LIFE, "", "the other end of migrate: one VPS by standard input and output", NULL, NULL, false, 0,
	 0, 0, COMPLETE_NONE, NULL, IMAGE_VERB(verb_receive)},

	{"exec", "exec2", INSIDE, "NAME COMMAND [ARG...]",
	 "run a command inside; exits with its status",
	 "A terminal is used when standard input and output are one; -t forces it, -T forbids it.",
	 exec_opts, false, 1, 1, 1, COMPLETE_VPS_RUNNING, NULL, verb_exec},
	{"enter", "shell", INSIDE, "NAME", "a login shell inside", NULL, exec_opts, false, 0, 1, 1,
	 COMPLETE_VPS_RUNNING, NULL, verb_enter},
	{"console", "attach", INSIDE, "NAME", "the VPS's console; detach with Enter, Esc, '.'",
	 NULL, console_opts, false, 0, 1, 1, COMPLETE_VPS_RUNNING, NULL, verb_console},
	{"cp", "copy", INSIDE, "NAME:PATH|PATH|- NAME:PATH|PATH|-",
	 "copy files in and out; - is a tar stream", NULL, cp_opts, false, 0, 2, 2, COMPLETE_FILE,
	 NULL, verb_cp},

	{"list", "ls ps", WATCH, "[NAME...]", "list VPSes (running ones; -a: all)", NULL, list_opts,
	 false, 0, 0, -1, COMPLETE_VPS, NULL, verb_list},
	{"status", NULL, WATCH, "NAME...", "one line: id, name, state", NULL, status_opts, false, 0,
	 0, -1, COMPLETE_VPS, NULL, verb_status},
	{"inspect", "show config", WATCH, "NAME...", "definition and state as JSON", NULL, NULL,
	 false, 0, 1, -1, COMPLETE_VPS, NULL, verb_inspect},
	{"check", NULL, WATCH, "NAME", "can it be suspended or migrated as it runs, and what is in the way", NULL,
	 check_opts, false, 0, 1, 1, COMPLETE_VPS_RUNNING, NULL, verb_check},
	{"stats", NULL, WATCH, "[NAME...]", "usage and pressure", NULL, stats_opts, false, 0, 0, -1,
	 COMPLETE_VPS_RUNNING, NULL, verb_stats},
	{"top", NULL, WATCH, "[NAME]", "usage of all VPSes, or processes of one, refreshed", NULL,
	 top_opts, false, 0, 0, 1, COMPLETE_VPS_RUNNING, NULL, verb_top},
	{"logs", "log", WATCH, "NAME", "what the console printed", NULL, logs_opts, false, 0, 1, 1,
	 COMPLETE_VPS, NULL, verb_logs},
	{"events", NULL, WATCH, "[NAME...]", "what happened: start, exit, oom, …", NULL,
	 events_opts, false, 0, 0, -1, COMPLETE_VPS, NULL, verb_events},

	{"clone", NULL, COPIES, "NAME NEW", "a new VPS with a copy of the disk, and an identity of its own",
	 "NEW is stopped. Limits and settings are NAME's, but for those that are given; addresses, MAC, host name\n"
	 "and published ports are its own.",
	 clone_opts, true, 0, 2, 2, COMPLETE_VPS, NULL, IMAGE_VERB(verb_clone)},
	{"backup", NULL, COPIES, "NAME -o FILE|-", "write definition, image and disk as one stream, while it runs",
	 NULL, backup_opts, false, 0, 1, 1, COMPLETE_VPS, NULL, IMAGE_VERB(verb_backup)},
	{"restore", NULL, COPIES, "FILE|-", "make a VPS out of a backup, on any host",
	 "The VPS is stopped. Settings that are given replace the backup's.", restore_opts, true, 0, 1, 1,
	 COMPLETE_FILE, NULL, IMAGE_VERB(verb_restore)},
	{"snapshot", "snapshots snap", COPIES, "ARG...", "snapshots: create, list, show, restore, delete", NULL, NULL,
	 false, 0, 0, -1, COMPLETE_NONE, snapshot_verbs, NULL},

	{"host", NULL, HOST, "ARG...", "the host: check, gc, start-all, stop-all", NULL, NULL,
	 false, 0, 0, -1, COMPLETE_NONE, host_verbs, NULL},
	{"completion", NULL, HOST, "bash", "print the shell completion", NULL, NULL, false, 0, 0, 1,
	 COMPLETE_NONE, NULL, verb_completion},
	{"help", NULL, HOST, "[COMMAND...]", "this help", NULL, NULL, false, 0, 0, 2, COMPLETE_NONE,
	 NULL, verb_help},
	{"version", NULL, HOST, "", "print the version", NULL, NULL, false, 0, 0, 0, COMPLETE_NONE,
	 NULL, verb_version},

	{"_teardown", NULL, NULL, "ID", "for the monitor", NULL, NULL, false, 0, 1, 1,
	 COMPLETE_NONE, NULL, verb_teardown_by_monitor},
	{"_restart", NULL, NULL, "ID", "for the monitor", NULL, NULL, false, 0, 1, 1, COMPLETE_NONE,
	 NULL, verb_restart_by_monitor},
	{"_thaw", NULL, NULL, "ID", "for the monitor", NULL, NULL, false, 0, 1, 1, COMPLETE_NONE, NULL,
	 verb_thaw_by_monitor},
	{"_lxcfs-heal", NULL, NULL, "ID", "for the monitor", NULL, NULL, false, 0, 1, 1,
	 COMPLETE_NONE, NULL, verb_lxcfs_heal},
	{"_complete", NULL, NULL, "WORD...", "for the completion", NULL, NULL, false, 1, 0, -1,
	 COMPLETE_NONE, NULL, verb_complete},
	{0},
};
