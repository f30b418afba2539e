/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the image verbs and migrate take: known to `vps` too, for help, completion and early errors. */
#include "cli/verbs.h"

const struct cli_opt image_import_opts[] = {
	{"format", 0, "FORMAT", "rootfs, docker-archive, oci (default: found by looking)"},
	{"arch", 0, "ARCH", "of a multi-arch index, this one (default: this machine's)"},
	{"max-size", 0, "SIZE", "refuse a layer that unpacks to more (default 64G)"},
	{"keep-blobs", 0, NULL, "keep the packed layers: export gives back the same bytes"},
	{0},
};

const struct cli_opt image_pull_opts[] = {
	{"user", 'u', "USER[:PASSWORD]",
	 "credentials; the password may come from $VPS_REGISTRY_PASSWORD"},
	{"auth-file", 0, "FILE", "credentials as docker login leaves them"},
	{"ca-file", 0, "FILE", "trust this certificate authority too"},
	{"plain-http", 0, NULL, "no TLS; only to loopback unless given twice"},
	{"arch", 0, "ARCH", "of a multi-arch index, this one (default: this machine's)"},
	{"parallel", 0, "N", "layers at a time (default 3)"},
	{"max-size", 0, "SIZE", "refuse a layer that unpacks to more (default 64G)"},
	{"keep-blobs", 0, NULL, "keep the packed layers"},
	{0},
};

const struct cli_opt image_bootstrap_opts[] = {
	{"include", 'i', "PKG,...", "more packages"},
	{"mirror", 'm', "URL", "another mirror"},
	{"variant", 0, "VARIANT", "mmdebstrap's variant (default: minbase plus what a VPS needs)"},
	{"components", 0, "LIST", "archive components (default main)"},
	{"bare", 0, NULL, "nothing but the variant and --include"},
	{"arch", 0, "ARCH", "architecture"},
	{0},
};

const struct cli_opt image_export_opts[] = {
	{"format", 0, "FORMAT", "oci (default) or docker-archive"},
	{0},
};

const struct cli_opt image_remove_opts[] = {
	{"force", 'f', NULL,
	 "also when a VPS uses it (its layers stay until then); no error when not there"},
	{0},
};

const struct cli_opt image_gc_opts[] = {
	{"dry-run", 'n', NULL, "only tell"},
	{0},
};

const struct cli_opt image_list_opts[] = {
	{"no-header", 'H', NULL, "no header line"},
	{0},
};

const struct cli_opt image_publish_opts[] = {
	{"snapshot", 's', "NAME", "of that snapshot; a running VPS has to have one for it"},
	{0},
};

const struct cli_opt clone_opts[] = {
	{"snapshot", 's', "NAME", "of that snapshot, not of the disk as it is now"},
	{"linked", 'l', NULL, "share the disk so far as a layer, and begin with an empty one above"},
	{0},
};

const struct cli_opt backup_opts[] = {
	{"output", 'o', "FILE|-", "where it goes; - is standard output"},
	{"base", 'b', "FILE", "only what is not in this earlier backup"},
	{"snapshot", 's', "NAME", "of that snapshot, not of the disk as it is now"},
	{"memory", 'm', NULL, "what it has in memory, too: what is restored goes on from there"},
	{"no-image", 0, NULL, "without the image: whoever restores it has to have that"},
	{"compress", 0, "zstd[:N]|none", "how hard, from 1 to 19 (3)"},
	{0},
};

const struct cli_opt restore_opts[] = {
	{"name", 'n', "NEW", "another name"},
	{"base", 'b', "FILE", "what the backup is incremental to; several times for several in a row"},
	{"trust", 0, NULL, "though it reaches for directories, devices or rights of this host, or has another's memory"},
	{"no-memory", 0, NULL, "though there is memory in it, boot"},
	{"new-identity", 0, NULL, "keys, ids and addresses of its own, as a clone: to have it beside the original"},
	{0},
};

const struct cli_opt migrate_opts[] = {
	{"all", 'a', NULL, "every VPS: empty this host"},
	{"live", 0, NULL, "take its memory along; where that cannot be, ask (the default for what runs)"},
	{"online", 0, NULL, NULL},
	{"require-live", 0, NULL, "rather not at all than with its memory lost"},
	{"restart", 0, NULL, "stop it here and start it there, without asking"},
	{"dry-run", 'n', NULL, "only say whether it could move, and what keeps it"},
	{"keep", 0, NULL, "what is here stays, stopped and marked (also --keep-src)"},
	{"keep-src", 0, NULL, NULL},
	{"clone", 0, NULL, "send a copy with an identity of its own, stopped; the VPS stays as it is"},
	{"continue", 0, NULL, "ask again after a hand-over that was not confirmed"},
	{"force-here", 0, NULL, "the other host is lost for good: what is here is the VPS"},
	{"compress", 0, "zstd|none", "of what is sent (default none)"},
	{"limit", 0, "SIZE", "bytes a second at most"},
	{"downtime", 0, "TIME", "live: pause to aim at, by rounds of memory before it (default 300ms; any: no rounds)"},
	{"parallel", 0, "N", "so many of them at once (default 1)"},
	{"timeout", 't', "TIME", "give up and let it go on here, when it takes longer"},
	{"stop-timeout", 0, "TIME", "force the stop of a restart after this time"},
	{"rsh", 'e', "CMD", "command that leads to the other host (default ssh)"},
	{"receive", 0, "CMD", "what to run there (default 'vps receive')"},
	{"yes", 'y', NULL, "do not ask (with --force-here)"},
	{0},
};
