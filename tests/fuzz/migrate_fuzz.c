/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a migration's peer says, behind the stream's sums: messages, an offer, files of a tree. The input is records: type u8,
 * length u16, bytes. Files are made in a directory of ours; beside it stands what must not change.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/json.h"
#include "images/images.h"
#include "runtime/migrate/apply.h"
#include "runtime/migrate/offer.h"
#include "runtime/migrate/scan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CANARY "nobody writes here\n"

/* Of the image room, which is not linked: which words are backends is not what is tested. */
int img_backend_parse(const char *s, enum img_backend *ret)
{
	*ret = DISK_AUTO;
	return str_eq(s, "auto") ? 0 : -EINVAL;
}

static int base = -1;

static void __attribute__((destructor)) tidy(void)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", base);
	if (base >= 0) {
		char dir[256] = "";
		ssize_t n = readlink(path, dir, sizeof(dir) - 1);
		if (n > 0)
			fs_remove_tree(AT_FDCWD, dir);
	}
}

static void set_up(void)
{
	char dir[] = "/dev/shm/vps-migrate-fuzz.XXXXXX";

	if (base >= 0)
		return;
	if (!mkdtemp(dir))
		abort();
	base = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (base < 0 || fs_write_rename(base, "canary", CANARY, strlen(CANARY), 0600) < 0)
		abort();
}

static void check_canary(void)
{
	char buf[64];
	struct stat st;

	if (fs_read_buf(base, "canary", buf, sizeof(buf)) < 0 || strcmp(buf, "nobody writes here") != 0 ||
	    fstatat(base, "canary", &st, AT_SYMLINK_NOFOLLOW) < 0 || (st.st_mode & 07777) != 0600 || st.st_uid != geteuid() ||
	    st.st_nlink != 1)
		abort();
}

static void take_offer(const uint8_t *p, size_t n)
{
	auto_json j = NULL;
	auto_offer o = {0};

	spec_init(&o.spec);
	if (json_parse((const char *)p, n, &j, NULL) == 0)
		(void)offer_from_json(j, &o, NULL);
}

static void take_entry(const uint8_t *p, size_t n)
{
	auto_entry e = {0};

	if (wire_entry_get(p, n, &e, NULL) == 0) {
		auto_strbuf sb = STRBUF_INIT;
		/* what is good comes out as it went in, but for the bytes that mean nothing */
		if (wire_entry_put(&e, &sb) < 0 || sb.len != n)
			abort();
	}
}

static bool index_taken(struct scan *s, const struct stream_rec *rec)
{
	return scan_index_take(s, rec, NULL) != 0;
}

static void take_all(const uint8_t *p, size_t size, struct apply *a, struct scan *s)
{
	while (size >= 3) {
		size_t n = stream_get_le(p + 1, 2);
		struct stream_rec rec = {.type = p[0] % (WIRE_INDEX + 1), .data = p + 3};
		struct ho_msg m;
		if (n > size - 3)
			n = size - 3;
		rec.len = n;
		if (rec.type == WIRE_MSG)
			(void)wire_msg_get(rec.data, n, &m, NULL);
		else if (rec.type == WIRE_OFFER)
			take_offer(rec.data, n);
		else if (rec.type == WIRE_INDEX && index_taken(s, &rec))
			return;
		else if (rec.type == WIRE_ROUND)
			(void)apply_round(a, NULL);
		else if (rec.type >= WIRE_TREE && rec.type != WIRE_INDEX) {
			if (rec.type == WIRE_ENTRY)
				take_entry(rec.data, n);
			if (apply_record(a, &rec, NULL) < 0)
				return;
		}
		p += 3 + n;
		size -= 3 + n;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct apply a = APPLY_INIT;
	auto_done(scan_freep) struct scan *scan = NULL;
	autoclose int top = -1;
	autoclose int blocks = -1;

	set_up();
	if (fs_remove_tree(base, "top") < 0 || mkdirat(base, "top", 0700) < 0 || fs_mkdir_p(base, "blocks", 0700) < 0 ||
	    fs_write_rename(base, "blocks/disk.img", "0123456789", 10, 0600) < 0)
		abort();
	top = fs_open_dir(base, "top");
	blocks = fs_open_dir(base, "blocks");
	a.tops[TREE_DISK] = top;
	a.tops[TREE_BLOCKS] = blocks;
	a.blocks_size = 10;
	if (scan_new(top, TREE_DISK, &scan, NULL) < 0)
		abort();
	take_all(data, size, &a, scan);
	apply_done(&a);
	check_canary();
	return 0;
}
