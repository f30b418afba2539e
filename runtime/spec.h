/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The definition of a VPS: instances/<id>/spec.json as a struct, vps-spec(5). What the operator
 * asked for, nothing that is found out at run time. Limits are bytes, thousandths of a CPU, bits a
 * second; SPEC_UNSET where nothing was asked.
 */
#ifndef VPS_RUNTIME_SPEC_H
#define VPS_RUNTIME_SPEC_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/json.h"

#define SPEC_UNSET (UINT64_MAX - 1) /* same value as CG_UNSET */
#define SPEC_MAX   UINT64_MAX	    /* "max": no limit */
#define SPEC_NAME_MAX 63
#define SPEC_SECCOMP_FILE "seccomp.json"
#define SPEC_VERSION 1 /* "version" of spec.json; a newer one is refused */

enum spec_isolation { ISOLATION_CONTAINER, ISOLATION_VM };
enum spec_restart { RESTART_NO, RESTART_ON_FAILURE, RESTART_ALWAYS };
enum spec_console { CONSOLE_PTY, CONSOLE_PIPES };
enum spec_migratable { MIGRATABLE_AUTO, MIGRATABLE_ON, MIGRATABLE_OFF };

struct spec_mount { char *src, *dst; bool ro; }; /* a host path, operator's own, bound in */
struct spec_io_max { char *device; uint64_t rbps, wbps, riops, wiops; }; /* "/dev/sda" or "8:0" */

struct vps_spec {
	unsigned id;	/* 0 until stored */
	char *name;	/* [a-z0-9][a-z0-9_.-]*, not all digits */
	char uuid[37];
	uint64_t created; /* seconds since 1970 */
	enum spec_isolation isolation;
	uint32_t id_base; /* first host uid and gid of the 65,536 */

	/* image */
	char *image;	    /* reference as given */
	char *image_digest; /* of the manifest, pinned */

	/* payload: all NULL: the image's own init (/sbin/init), else the image's entrypoint + cmd
	 * under vps-init */
	char **init;	/* strv: this is PID 1 */
	char **command; /* strv: runs under vps-init */
	char **env;	/* strv "K=V" */
	char *user, *workdir;
	enum spec_console console;
	char *hostname;
	char *stop_signal; /* NULL: the image's, or SIGRTMIN+3 for systemd, SIGTERM else */
	uint64_t stop_timeout_ms; /* SPEC_UNSET: 90 s for an init of the image, 10 s else */

	/* limits (cgroups/cgroups.h has the meanings) */
	uint64_t memory, memory_high, memory_low, memory_min, swap;
	uint64_t cpus; /* thousandths */
	uint64_t cpu_weight;
	char *cpuset;
	uint64_t pids, io_weight;
	struct spec_io_max *io_max;
	size_t n_io_max;

	/* disk */
	char *disk_backend; /* NULL until created: auto */
	uint64_t disk, inodes;

	/* network */
	char *net;	/* "routed", "bridge=BR", "macvlan=IF", "none" */
	char **ips;	/* strv as asked: "auto" (of pool4), "auto6", "10.0.0.5/24", or only "none";
			 * NULL: the pools' (routed), none (else) */
	char **addrs;	/* strv as leased; addrs[i] is what ips[i] got */
	char *mac, *gateway, *gateway6;
	uint64_t rate_in, rate_out, pps, conntrack;
	char **publish; /* strv "[ADDR:]HOST:GUEST[/tcp|udp]" */
	char **dns, **dns_search;

	/* isolation vm */
	char *kernel;	       /* absolute path; NULL: the newest of /boot */
	char **initrd_modules; /* strv: names of kernel modules beside those that every guest gets */
	char *cmdline;	       /* what the kernel is told beside our own words */

	/* inside */
	struct spec_mount *mounts;
	size_t n_mounts;
	char **devices; /* strv "/dev/fuse[:rwm]" */
	char **sysctls; /* strv "net.ipv4.x=1" */
	char **cap_add, **cap_drop; /* strv "CAP_SYS_TIME"; "CAP_ALL" */
	char *seccomp;	/* NULL: the built-in profile; "unconfined"; else the operator's file, by
			 * absolute path in what is asked and SPEC_SECCOMP_FILE (of the instance
			 * directory, a copy) once stored */
	char **features; /* strv of spec_features() */
	enum spec_migratable migratable; /* of a container; see spec_is_migratable */

	/* policy */
	bool autostart;
	int boot_order; /* higher starts first, as vzctl's bootorder; 0 default */
	enum spec_restart restart;
	unsigned restart_max; /* 0: no cap */
	bool remove_on_exit; /* run --rm */
	char *snapshot_schedule, *snapshot_pattern; /* crontab(5), strftime(3) */
	uint64_t snapshot_expiry; /* ms; SPEC_UNSET: never */
	char **ssh_keys; /* strv: public keys for root */
	char *user_data; /* text of the NoCloud user-data */
	char **labels;	 /* strv "K=V" */
};

void spec_init(struct vps_spec *s); /* every limit SPEC_UNSET */
void spec_done(struct vps_spec *s);
/* dst need not be initialised. 0 or -ENOMEM, and then dst is empty. */
int spec_copy(struct vps_spec *dst, const struct vps_spec *src);
/* Do two definitions say the same in every field? */
bool spec_equal(const struct vps_spec *a, const struct vps_spec *b);
/* -VPS_ECONF with the key in err. Unknown keys are refused: a limit misspelt is a limit not
 * enforced. */
int spec_from_json(const struct json *j, struct vps_spec *ret, struct vps_err *err);
void spec_to_json(const struct vps_spec *s, struct json_out *o, const char *key);
/* Everything that can be said without the host: names, ranges, combinations. -VPS_EUSAGE. */
int spec_check(const struct vps_spec *s, struct vps_err *err);
int spec_name_check(const char *name, struct vps_err *err);
/* Of a value of the enums above, as spec.json and the options spell it. */
const char *spec_isolation_name(enum spec_isolation v);
const char *spec_restart_name(enum spec_restart v);
const char *spec_console_name(enum spec_console v);
/* The features there are (strv): each lifts one restriction, docs/security.md. */
const char *const *spec_features(void);
bool spec_has_feature(const struct vps_spec *s, const char *feature);
/* Is a container kept off what no checkpoint can hold (namespaces of its services' own but for mounts and
 * network)? AUTO: unless containers are to run in it, which need those. A VM always can be, and needs nothing. */
bool spec_is_migratable(const struct vps_spec *s);
/* "TERM", "SIGTERM", "15", "SIGRTMIN+3": the number, or -EINVAL. */
int spec_signal_parse(const char *s);

/* One setting by its option name ("memory", "ip", "label", … without dashes) from text: the one
 * table behind `create`, `set`, profiles and vps.conf, so that all of them know the same words.
 * List settings append; an empty value clears ("--ip ''"), "-VALUE" takes one entry away ("--ip
 * -10.0.0.5", "--env -K", "--mount -/dst"), a key that is there already is replaced (env, label,
 * sysctl, mount). An empty value gives any other setting its default back. A flag takes NULL,
 * "yes" or "no". Options that name a file (ssh-key, user-data) read it now. -VPS_EUSAGE with what
 * is wrong and an example; then s is unchanged. */
int spec_set(struct vps_spec *s, const char *option, const char *value, struct vps_err *err);
struct spec_option {
	const char *name;  /* "memory" */
	const char *alias; /* "ram" or NULL */
	const char *arg;   /* "SIZE"; NULL: a flag */
	const char *help;  /* one line */
	bool live;	   /* `set` may change it while running */
	bool create_only;  /* never by `set` */
	bool list;	   /* may be given several times */
	const char *group; /* "Limits", "Network", … for help; a group's options stand together */
	const struct spec_setter *how; /* spec_options.c's own */
};
/* The table, ended by a NULL name. */
const struct spec_option *spec_options(void);
/* By name or alias; NULL when there is none. */
const struct spec_option *spec_option_find(const char *name);
/* The nearest of the known words for a misspelt one, NULL when none is near: "did you mean". */
const char *spec_option_suggest(const char *name);

#endif
