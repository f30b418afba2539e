/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Images and disks. Images come in as archives or from registries, are kept as OCI blobs and as
 * layers unpacked once; a disk is one guest's writable part, of an enforced size. This room
 * knows nothing of VPSes: users of an image are named by an owner string (a pin), disks live in a
 * directory that the caller owns.
 *
 *   <root>/images/blobs/sha256/<hex>     manifests, configs; layer blobs are dropped once unpacked
 *                                        unless keep_blobs (export re-creates them)
 *   <root>/images/layers/<hex>/fs/       one unpacked layer, named by OCI chain id; ids and xattrs
 *                                        unshifted; whiteouts and opaque marks as overlayfs wants them
 *   <root>/images/layers/<hex>/layer.json  diff id, parent, sizes, entries, what was refused
 *   <root>/images/erofs/<hex>            an image's root as one EROFS, for machines; by its top layer's chain id
 *   <root>/images/refs/                  reference -> manifest digest
 *   <root>/images/pins/<owner>           manifest digest in use by owner
 *   <root>/images/tmp/<work>/            unfinished work, locked (flock) by its process; a dead one's goes
 *                                        with the next change or gc
 *
 * OCI image-spec 1.1, distribution-spec 1.1.
 */
#ifndef VPS_IMAGES_H
#define VPS_IMAGES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/digest.h"
#include "base/err.h"
#include "base/progress.h"

/* ---- the store ---------------------------------------------------------- */

struct img_store;
/* Open <root>/images, made when missing. root_fd stays the caller's. */
int img_store_open(int root_fd, struct img_store **ret, struct vps_err *err);
struct img_store *img_store_close(struct img_store *s);
static inline void img_store_closep(struct img_store **s) { *s = img_store_close(*s); }

/* Caps against bombs; 0 in a field: the default in brackets. */
struct img_caps {
	uint64_t bytes;	      /* unpacked, a layer [64 GiB] */
	uint64_t ratio;	      /* unpacked / packed, once past 64 MiB [200] */
	uint64_t entries;     /* a layer [2,000,000] */
	uint32_t layers;      /* [127] */
	uint32_t path;	      /* [4095] */
	uint64_t xattr_bytes; /* an entry [64 KiB] */
	uint64_t memory;      /* of unpacking, all of its processes together [64 MiB]: xz -9 and zstd --long
				 want more and say so */
};

/* What a bare root file system does not say of itself. Any may be NULL. */
struct img_meta {
	char *const *env, *const *entrypoint, *const *cmd;
	const char *user, *workdir, *stop_signal, *author;
	char *const *labels; /* "k=v" */
};

struct img_opts {
	struct img_caps caps;
	const struct progress *progress;
	const char *arch; /* NULL: this machine's, in OCI words (amd64, arm64) */
	bool keep_blobs;
	size_t without; /* export: so many of the lowest layers are where it goes, and are left out */
	const struct img_meta *meta; /* import of IMG_ROOTFS and bootstrap only */
};

/* What an image is; all strings owned. */
struct img_info {
	char digest[DIGEST_LEN]; /* of the manifest: the image's identity */
	char config[DIGEST_LEN];
	char **refs;		 /* "debian:12" … */
	char *arch, *os, *created, *author;
	char **env, **entrypoint, **cmd; /* strv */
	char *user, *workdir, *stop_signal;
	char **labels;		 /* "k=v" */
	char **volumes, **ports;
	size_t n_layers;
	char (*layers)[DIGEST_LEN];   /* chain ids, lowest first */
	char (*diff_ids)[DIGEST_LEN]; /* uncompressed digests, lowest first */
	uint64_t size;		 /* bytes of file data in all layers */
	uint64_t entries;
	char **refused;		 /* device nodes etc. that were recorded and not made: "dev/sda b 8:0" */
	unsigned n_pins;
};
void img_info_done(struct img_info *i);

/* Reference as people write it: NAME[:TAG][@DIGEST], a digest or a unique prefix of ≥ 8 hex digits. */
/* -VPS_ENOIMAGE when not there, with near names in err. */
int img_inspect(struct img_store *s, const char *ref, struct img_info *ret, struct vps_err *err);
/* Named or pinned images by name; a damaged one has digest, refs and pins only. */
int img_list(struct img_store *s, struct img_info **ret, size_t *ret_n, struct vps_err *err);
void img_list_free(struct img_info *list, size_t n);
/* Is it a well-formed reference (lower case path, tag)? */
int img_ref_check(const char *ref, struct vps_err *err);

enum img_format { IMG_AUTO, IMG_ROOTFS, IMG_DOCKER_ARCHIVE, IMG_OCI_TAR, IMG_OCI_DIR };
/* Import from a path ("-": fd 0). The format is found by looking unless given. ref may be NULL where
 * the source names itself; it is not allowed to rename several images of one archive. ret may be NULL
 * (several images: the first). Forks; in a process with threads run it in a child. */
int img_import(struct img_store *s, const char *path, enum img_format fmt, const char *ref,
	       const struct img_opts *o, struct img_info *ret, struct vps_err *err);

struct img_pull_opts {
	const char *user, *password; /* NULL: anonymous, or from ~/.docker/config.json-like auth_file */
	const char *auth_file;
	const char *ca_file;	     /* PEM added to the system's */
	bool plain_http;	     /* only loopback unless force_plain_http */
	bool force_plain_http;
	unsigned parallel;	     /* layers at a time [3] */
	unsigned retries;	     /* [5] */
	const char *platform_variant;
};
/* Pull HOST[:PORT]/PATH[:TAG|@DIGEST]. No default host: a reference without a host is an error that says so
 * (default-registry in vps.conf may add one). */
int img_pull(struct img_store *s, const char *ref, const char *tag_as, const struct img_pull_opts *p,
	     const struct img_opts *o, struct img_info *ret, struct vps_err *err);

/* Build a Debian (or derivative) image with mmdebstrap. include: comma list of packages added to what
 * a VPS needs (systemd, …) unless bare; mirror NULL: mmdebstrap's default. */
struct img_bootstrap_opts {
	const char *suite, *mirror, *include, *variant, *components;
	bool bare;
};
int img_bootstrap(struct img_store *s, const struct img_bootstrap_opts *b, const char *ref,
		  const struct img_opts *o, struct img_info *ret, struct vps_err *err);

/* Write an OCI layout tar (or docker-archive) to path ("-": fd 1). Layers come out with their own diff ids:
 * byte-identical where the blob was kept, else re-made with new digests; the image is then found by its new one, too.
 * With o->without, only a store that has those layers can take it. */
int img_export(struct img_store *s, const char *ref, const char *path, enum img_format fmt,
	       const struct img_opts *o, struct vps_err *err);

/* The digests that an image (by its own) has elsewhere, as far as this store has made them: strv, in no order. */
int img_exported_as(struct img_store *s, const char *digest, char ***ret);
/* How many of these layers (chain ids, lowest first) are here, from the lowest on. */
size_t img_layers_here(struct img_store *s, char *const *chains);

int img_tag(struct img_store *s, const char *ref, const char *new_ref, struct vps_err *err);
/* Remove a reference (or with a digest: all references of it). Content goes with gc. Refused when pinned
 * unless the image keeps another reference: an image in use stays named. force removes the name all the same. */
int img_remove(struct img_store *s, const char *ref, bool force, struct vps_err *err);
/* Remove what no reference and no pin uses, and unfinished work of dead processes. dry: only count. */
struct img_gc_result { unsigned images, layers, blobs, temps; uint64_t bytes; };
int img_gc(struct img_store *s, bool dry, struct img_gc_result *ret, struct vps_err *err);

/* A pin keeps an image for an owner ("101": letters, digits and . _ - : @ +, at most 200). Made before the owner is, removed after it. Atomic against gc. */
int img_pin(struct img_store *s, const char *owner, const char *digest, struct vps_err *err);
int img_unpin(struct img_store *s, const char *owner);
int img_pins(struct img_store *s, char ***ret_owners); /* strv, for host check */

/* O_PATH fd of an unpacked layer's fs/ by chain id. As a lowerdir of overlayfs: "/proc/self/fd/N", short
 * enough for any number of layers; the mount does not need the fd afterwards. Overlayfs takes only layers
 * of the mount namespace that the mount is made in: open the store there. */
int img_layer_open(struct img_store *s, const char *chain, struct vps_err *err);

/*
 * The image's root as one read-only EROFS file system: made when it is not there, once, whoever asks, by
 * mkfs.erofs over the stacked layers, as the root of a user namespace of its own whose ids begin at id_base (65,536
 * host ids that nobody else has). Lives as long as the image does. O_RDONLY fd. -VPS_EUNSUPPORTED: no
 * mkfs.erofs, or layers on a file system without idmapped mounts. Forks.
 */
int img_erofs_open(struct img_store *s, const struct img_info *image, uint32_t id_base, const struct img_opts *o,
		   int *ret_fd, struct vps_err *err);
/* What is in that file: two hosts make the same of the same layers, if mkfs.erofs is the same. Read once, then kept with it. */
int img_erofs_digest(int fd, char digest[DIGEST_LEN], struct vps_err *err);
/* Could it be made here? */
int img_erofs_check(struct vps_err *err);

/* ---- a disk's tree as a layer -------------------------------------------- */

/* The upper/ of a disk (its fd, open for reading), which lies on the layers of image base, made an image: base's layers
 * and one more. The config is base's. The tree must not change meanwhile. -VPS_EBADIMAGE: base has 127 layers. */
struct img_publish {
	const char *base; /* digest of its manifest */
	const char *ref;  /* name; NULL: none */
	const char *pin;  /* owner of a pin on it; NULL: none */
	const char *comment; /* for its history */
	bool (*leave_out)(const char *path); /* without '/' in front; NULL: nothing */
};
int img_publish(struct img_store *s, int upper, const struct img_publish *p, const struct img_opts *o,
		struct img_info *ret, struct vps_err *err);
/* The same tree as a tar of OCI's terms to fd; the same tree always gives the same bytes. */
int img_upper_pack(int upper, int fd, const struct img_opts *o, struct vps_err *err);
/* And back: a tar (hostile: it may come from a tenant) from fd into upper, which is empty. layers: of the image below,
 * lowest first, O_PATH or better. What cannot be made is left out, as of an image. Forks. */
int img_upper_unpack(int upper, int fd, const int *layers, size_t n, const struct img_opts *o, struct vps_err *err);

/* What a file of the host's own holds (a kernel module), unpacked when it is gzip, xz or zstd; at most max bytes. */
int img_read_packed(int fd, size_t max, char **ret, size_t *ret_len, struct vps_err *err);

/* ---- disks -------------------------------------------------------------- */

/*
 * A disk is the directory `disk/` of a caller's directory: upper/ and work/ for overlayfs behind
 * one of the backends. What the tenant may do there (nosuid, nodev) is decided by the flags of the
 * overlay mount on top; those of the disk's own mount do not count.
 */
enum img_backend {
	DISK_AUTO,  /* size or inodes asked: the first of quota, loop that can enforce them; else dir */
	DISK_QUOTA, /* a directory with a project quota (ext4, xfs mounted with prjquota) */
	DISK_BTRFS, /* a subvolume with a qgroup limit; df inside shows the host's size */
	DISK_LOOP,  /* a sparse ext4 image on a loop device */
	DISK_DIR,   /* a plain directory; only without limits */
};
/* "auto", "quota", "btrfs", "loop", "dir" */
const char *img_backend_name(enum img_backend b);
int img_backend_parse(const char *s, enum img_backend *ret); /* 0 or -EINVAL */

struct img_disk_spec {
	enum img_backend backend;
	uint64_t size;	 /* bytes; 0: no limit (not with loop: it needs one, of at least 16 MiB) */
	uint64_t inodes; /* 0: the backend's own measure. loop: rounded up, by an eighth at most; goes
			  * with the size on resize. btrfs: cannot */
	uint32_t project; /* project id for DISK_QUOTA: unique on the host (the id range's base works) */
};
/* Can it be enforced in this directory? -VPS_EUNSUPPORTED says why and what to do. AUTO is resolved into *ret. */
int img_disk_check(int dir_fd, const struct img_disk_spec *d, enum img_backend *ret, struct vps_err *err);
/* Make dir_fd/disk/ (0700). All or nothing: as disk.tmp/, renamed when whole; what a kill left goes with the
 * next create or destroy. ret: the resolved backend. -VPS_EEXISTS, -VPS_EUNSUPPORTED, -VPS_ERESOURCE. */
int img_disk_create(int dir_fd, const struct img_disk_spec *d, enum img_backend *ret, struct vps_err *err);
/* Grow (live too) or shrink (only down to what is used; loop: only offline, on a copy, as a crash must not
 * break it). Size and inodes. was->backend is the real one. mount_fd: the disk's mount as attached, or -1; no
 * backend needs it. The same call again completes what a kill interrupted. -VPS_ERESOURCE: too small for what
 * is there; -VPS_ESTATE: only while stopped. A guest-written disk grows by its file only: the guest does the rest. */
int img_disk_resize(int dir_fd, const struct img_disk_spec *was, const struct img_disk_spec *now, int mount_fd,
		    struct vps_err *err);
/* A detached mount (as of open_tree/fsmount) whose root holds upper/ and work/ (0755 root:root; loop has a
 * lost+found, too); the loop device, if any, goes by itself with the last user (LO_FLAGS_AUTOCLEAR). The caller
 * idmaps and attaches it. Again while attached: another mount of the same file system. I5 holds: only images that
 * no guest kernel could write are mounted; a disk marked `guest-written` is refused (-VPS_EUNSUPPORTED). */
int img_disk_attach(int dir_fd, enum img_backend b, bool read_only, int *ret_mount, struct vps_err *err);
/* How a disk in use is kept still for the last part of a copy. freeze: nobody writes from here on, and what was written
 * is in the files. thaw: after a successful freeze, always; its error says that the stillness did not last, so the copy
 * is worthless. */
struct img_still {
	int (*freeze)(void *arg, struct vps_err *err);
	int (*thaw)(void *arg, struct vps_err *err);
	void *arg;
};
/* Make dir_fd/disk/ a copy of from_dir/disk/, a disk of was->backend: by reflinks, a btrfs snapshot, or sparsely
 * byte by byte. d: its limits, of the same backend, whatever was->size is; NULL: the copy is only kept, unlimited and
 * counted for nobody. still NULL: nobody writes; btrfs never needs it. All or nothing, as img_disk_create; synced. A guest's disk
 * (I5) is copied by blocks and is a guest's again. progress: key 0. -VPS_ERESOURCE: d is too small for what is there. */
int img_disk_copy(int from_dir, const struct img_disk_spec *was, int dir_fd, const struct img_disk_spec *d,
		  const struct img_still *still, const struct progress *p, struct vps_err *err);
/* The image file of a loop disk for a VMM: locked against every other user as long as the fd (or a copy of it)
 * is open, and unless read_only marked `guest-written` for good before it is handed out. -VPS_ELOCKED: in use. */
int img_disk_guest_open(int dir_fd, bool read_only, int *ret_fd, struct vps_err *err);
/* A guest's disk by its blocks: the image file for reading, whoever has it; and a new disk, guest-written from its first
 * byte, of size bytes that are all zero, for writing. The caller makes sure that it is filled before anybody has it. */
int img_disk_blocks_open(int dir_fd, int *ret_fd, struct vps_err *err);
int img_disk_blocks_create(int dir_fd, uint64_t size, int *ret_fd, struct vps_err *err);
/* Has a guest kernel had it (I5)? */
bool img_disk_is_guests(int dir_fd);
/* The project that a quota disk counts against; 0: none. */
uint32_t img_disk_project(int dir_fd);
struct img_disk_usage { uint64_t size, used, inodes, inodes_used; }; /* limits 0: none */
/* As df inside tells it. mount_fd -1: when stopped, or not at hand (loop then looks for its device: slower).
 * -EOPNOTSUPP: nobody counts (dir; btrfs without quota). */
int img_disk_usage(int dir_fd, const struct img_disk_spec *d, int mount_fd, struct img_disk_usage *ret);
/* Remove dir_fd/disk/ and its quota, half-made or whole; what is there tells its backend, b is not needed.
 * Missing is fine. */
int img_disk_destroy(int dir_fd, enum img_backend b, struct vps_err *err);
/* Loop devices on backing files below dir_fd that nobody mounts and that do not go by themselves: "/dev/loopN
 * <file>"; fix detaches. For host check/gc. */
int img_disk_audit(int dir_fd, bool fix, char ***ret_found, struct vps_err *err);

#endif
