/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/loader.h"

#include <asm/bootparam.h>
#include <elf.h>
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"

#define SETUP_MAGIC  0x53726448 /* "HdrS" */
#define PROTOCOL_MIN 0x020c	/* xloadflags: Linux 3.8 */
#define MAX_SEGMENTS 64
#define PAGE	     4096ull
#define FIRST_MODERN 0x1000000ull /* where an ELF kernel's own data may begin */

struct image {
	int fd;
	uint64_t size;
	uint64_t entry;
	uint64_t end; /* behind all that the kernel uses before it knows the memory map */
	struct boot_params bp;
};

/* A part of a file into memory; -ENOMEM when there is no memory at that address. */
static int load_at(const struct gmem *m, int fd, uint64_t off, uint64_t gpa, uint64_t len)
{
	void *p = gmem_at(m, gpa, len);

	return p ? fs_pread_all(fd, p, len, off) : len ? -ENOMEM : 0;
}

static int file_size(int fd, uint64_t *ret)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	*ret = (uint64_t)st.st_size;
	return 0;
}

static int too_small(const struct gmem *m, uint64_t need, struct vps_err *err)
{
	return vps_err_set(err, VPS_ERESOURCE,
			   "this kernel wants more than %llu MiB of memory to start, the guest has "
			   "%llu MiB",
			   (unsigned long long)(need >> 20), (unsigned long long)(m->size >> 20));
}

static int load_bzimage(const struct gmem *m, struct image *k, struct vps_err *err)
{
	struct setup_header *h = &k->bp.hdr;
	uint8_t jump[2];
	int r = fs_pread_all(k->fd, h, sizeof(*h), offsetof(struct boot_params, hdr));

	if (r == 0) /* the header's length is the target of the jump at 0x200 */
		r = fs_pread_all(k->fd, jump, 2, 0x200);
	if (r < 0)
		return vps_err_sys(err, r, "read the kernel");

	size_t len = 0x202 + (size_t)jump[1] - offsetof(struct boot_params, hdr);

	if (h->header != SETUP_MAGIC || h->version < PROTOCOL_MIN ||
	    !(h->xloadflags & XLF_KERNEL_64) || !(h->loadflags & LOADED_HIGH))
		return vps_err_set(
			err, VPS_EUNSUPPORTED,
			"the kernel has no 64-bit entry (Linux 3.8 or newer for x86-64 has)");
	if (len < sizeof(*h))
		memset((uint8_t *)h + len, 0, sizeof(*h) - len);

	uint64_t skip = (h->setup_sects ? h->setup_sects + 1ull : 5ull) * 512;

	if (k->size <= skip)
		return vps_err_set(err, VPS_EUNSUPPORTED, "the kernel file is cut");
	/* It unpacks itself at its preferred address and needs init_size there. */
	k->end = h->pref_address > AT_HIGH ? h->pref_address : AT_HIGH;
	if (__builtin_add_overflow(k->end, h->init_size, &k->end) || k->end > gmem_low(m) ||
	    k->size - skip > gmem_low(m) - AT_HIGH)
		return too_small(m, k->end, err);
	r = load_at(m, k->fd, skip, AT_HIGH, k->size - skip);
	if (r < 0)
		return vps_err_sys(err, r, "read the kernel");
	if (AT_HIGH + (k->size - skip) > k->end)
		k->end = AT_HIGH + (k->size - skip);
	k->entry = AT_HIGH + 0x200;
	return 0;
}

static int load_segment(const struct gmem *m, struct image *k, const Elf64_Phdr *p,
			struct vps_err *err)
{
	uint64_t end;

	if (p->p_filesz > p->p_memsz || __builtin_add_overflow(p->p_paddr, p->p_memsz, &end) ||
	    p->p_paddr < AT_HIGH || p->p_offset > k->size || p->p_filesz > k->size - p->p_offset)
		return vps_err_set(err, VPS_EUNSUPPORTED,
				   "a segment of the kernel is out of place");
	if (end > gmem_low(m))
		return too_small(m, end, err);

	int r = load_at(m, k->fd, p->p_offset, p->p_paddr, p->p_filesz);

	if (r < 0)
		return vps_err_sys(err, r, "read the kernel");
	if (end > k->end)
		k->end = end;
	return 0;
}

static int load_elf(const struct gmem *m, struct image *k, const Elf64_Ehdr *e, struct vps_err *err)
{
	Elf64_Phdr p[MAX_SEGMENTS];
	bool inside = false;
	int r;

	if (e->e_ident[EI_CLASS] != ELFCLASS64 || e->e_machine != EM_X86_64 ||
	    e->e_phentsize != sizeof(p[0]) || !e->e_phnum || e->e_phnum > MAX_SEGMENTS)
		return vps_err_set(err, VPS_EUNSUPPORTED, "the kernel is no ELF file for x86-64");
	r = fs_pread_all(k->fd, p, e->e_phnum * sizeof(p[0]), e->e_phoff);
	if (r < 0)
		return vps_err_sys(err, r, "read the kernel");
	for (unsigned i = 0; i < e->e_phnum; i++) {
		if (p[i].p_type != PT_LOAD || !p[i].p_memsz)
			continue;
		r = load_segment(m, k, &p[i], err);
		if (r < 0)
			return r;
		inside |= e->e_entry >= p[i].p_paddr && e->e_entry - p[i].p_paddr < p[i].p_filesz;
	}
	if (!inside)
		return vps_err_set(err, VPS_EUNSUPPORTED,
				   "the kernel's entry is outside of what it loads");
	/* It has no header of its own; this is what a loader would have filled in. */
	k->bp.hdr = (struct setup_header){
		.boot_flag = 0xaa55,
		.header = SETUP_MAGIC,
		.version = PROTOCOL_MIN,
		.loadflags = LOADED_HIGH,
		.kernel_alignment = FIRST_MODERN,
		.initrd_addr_max = 0x7fffffff,
		.cmdline_size = CMDLINE_MAX - 1,
	};
	k->entry = e->e_entry;
	return 0;
}

static int load_kernel(const struct gmem *m, struct image *k, struct vps_err *err)
{
	union {
		Elf64_Ehdr elf;
		uint8_t bytes[64];
	} head;
	int r = file_size(k->fd, &k->size);

	if (r < 0)
		return vps_err_sys(err, r, "the kernel's file");
	r = fs_pread_all(k->fd, &head, sizeof(head), 0);
	if (r < 0 && r != -ENODATA)
		return vps_err_sys(err, r, "read the kernel");
	if (r == 0 && memcmp(head.elf.e_ident, ELFMAG, SELFMAG) == 0)
		return load_elf(m, k, &head.elf, err);
	if (r == 0 && k->size > 0x1000)
		return load_bzimage(m, k, err);
	return vps_err_set(err, VPS_EUNSUPPORTED, "the file is no kernel (bzImage or ELF)");
}

/* As high as it may be, so that it is out of the kernel's way. */
static int load_initrds(const struct gmem *m, struct image *k, const struct loader_opts *o,
			struct vps_err *err)
{
	uint64_t total = 0, size, top = gmem_low(m), at;
	int r;

	for (size_t i = 0; i < o->n_initrds; i++) {
		r = file_size(o->initrds[i], &size);
		if (r < 0)
			return vps_err_sys(err, r, "the initial RAM disk's file");
		if (size > m->size || __builtin_add_overflow(total, (size + 3) & ~3ull, &total))
			return too_small(m, size, err);
	}
	if (!total)
		return 0;
	if (k->bp.hdr.initrd_addr_max && top > k->bp.hdr.initrd_addr_max + 1ull)
		top = k->bp.hdr.initrd_addr_max + 1ull;
	if (total > top || (at = (top - total) & ~(PAGE - 1)) < k->end)
		return too_small(m, k->end + total, err);
	k->bp.hdr.ramdisk_image = (uint32_t)at;
	k->bp.hdr.ramdisk_size = (uint32_t)total;
	for (size_t i = 0; i < o->n_initrds; i++) {
		r = file_size(o->initrds[i], &size);
		/* It must not have grown since. */
		if (r == 0 && size > total)
			r = -EFBIG;
		if (r == 0)
			r = load_at(m, o->initrds[i], 0, at, size);
		if (r < 0)
			return vps_err_sys(err, r, "read the initial RAM disk");
		at += (size + 3) & ~3ull;
		total -= (size + 3) & ~3ull;
	}
	return 0;
}

static void add_e820(struct boot_params *bp, uint64_t from, uint64_t to, uint32_t type)
{
	if (from < to)
		bp->e820_table[bp->e820_entries++] =
			(struct boot_e820_entry){.addr = from, .size = to - from, .type = type};
}

static void memory_map(const struct gmem *m, struct boot_params *bp)
{
	enum { RAM = 1, RESERVED = 2 };

	add_e820(bp, 0, LOW_RAM_END, RAM);
	add_e820(bp, AT_ACPI, AT_HIGH, RESERVED);
	add_e820(bp, AT_HIGH, gmem_low(m), RAM);
	if (m->size > gmem_low(m))
		add_e820(bp, GMEM_HOLE_END, GMEM_HOLE_END + m->size - gmem_low(m), RAM);
}

int loader_tables(const struct gmem *m)
{
	/* null, unused, code (long mode), data: flat, present */
	static const uint64_t gdt[] = {0, 0, 0x00af9b000000ffff, 0x00cf93000000ffff};
	/* mov $RESET_VALUE, %al; mov $PORT_RESET, %dx; out %al, %dx; 1: hlt; jmp 1b */
	static const uint8_t bios[] = {
		0xb0, RESET_VALUE, 0xba, PORT_RESET & 0xff, PORT_RESET >> 8, 0xee, 0xf4, 0xeb, 0xfd,
	};
	uint64_t table[512] = {AT_PAGE_TABLES + 0x1000 + 3};
	int r = gmem_write(m, AT_GDT, gdt, sizeof(gdt));

	if (r == 0)
		r = gmem_write(m, AT_RESET, bios, sizeof(bios));
	if (r == 0)
		r = gmem_write(m, AT_PAGE_TABLES, table, sizeof(table));
	for (unsigned i = 0; i < 4; i++)
		table[i] = AT_PAGE_TABLES + 0x2000 + 0x1000ull * i + 3;
	if (r == 0)
		r = gmem_write(m, AT_PAGE_TABLES + 0x1000, table, sizeof(table));
	for (unsigned i = 0; i < 4 && r == 0; i++) {
		for (uint64_t k = 0; k < 512; k++)
			table[k] = (i * 512 + k) << 21 | 0x83; /* present, writable, 2 MiB */
		r = gmem_write(m, AT_PAGE_TABLES + 0x2000 + 0x1000ull * i, table, sizeof(table));
	}
	return r;
}

int loader_load(const struct gmem *m, const struct loader_opts *o, struct loader_entry *ret,
		struct vps_err *err)
{
	struct image k = {.fd = o->kernel};
	size_t len = strlen(o->cmdline);
	int r = load_kernel(m, &k, err);

	if (r < 0)
		return r;
	if (len >= CMDLINE_MAX || (k.bp.hdr.cmdline_size && len > k.bp.hdr.cmdline_size))
		return vps_err_set(err, E2BIG, "the kernel's command line is longer than %u bytes",
				   k.bp.hdr.cmdline_size ? k.bp.hdr.cmdline_size : CMDLINE_MAX - 1);
	r = load_initrds(m, &k, o, err);
	if (r < 0)
		return r;
	k.bp.hdr.type_of_loader = 0xff;
	k.bp.hdr.cmd_line_ptr = AT_CMDLINE;
	k.bp.acpi_rsdp_addr = o->rsdp;
	memory_map(m, &k.bp);
	r = gmem_write(m, AT_CMDLINE, o->cmdline, len + 1);
	if (r == 0)
		r = gmem_write(m, AT_BOOT_PARAMS, &k.bp, sizeof(k.bp));
	if (r == 0)
		r = loader_tables(m);
	if (r < 0)
		return vps_err_sys(err, r, "prepare the kernel's start");
	*ret = (struct loader_entry){.rip = k.entry, .rsi = AT_BOOT_PARAMS, .cr3 = AT_PAGE_TABLES};
	return 0;
}
