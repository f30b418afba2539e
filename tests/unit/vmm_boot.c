/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Loader and ACPI tables: what they put where, and what they refuse. */
#include "tests/unit/base_util.h"

#include <asm/bootparam.h>
#include <elf.h>
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/acpi.h"
#include "vmm/loader.h"

static struct gmem m;

static int setup(void **state)
{
	return gmem_map(&m, 64 << 20, -1, NULL);
}

static int teardown(void **state)
{
	gmem_done(&m);
	return 0;
}

static int file_of(const void *data, size_t len)
{
	int fd = memfd_create("file", MFD_CLOEXEC);

	assert_int_equal(pwrite(fd, data, len, 0), len);
	return fd;
}

/* ---- bzImage ---- */

#define BZ_SIZE (5 * 512 + 9000) /* boot sector, 4 setup sectors, payload */

static void bz_make(uint8_t *k)
{
	struct setup_header h = {
		.setup_sects = 4,
		.boot_flag = 0xaa55,
		.jump = 0x6aeb, /* the header ends at 0x26c */
		.header = 0x53726448,
		.version = 0x020f,
		.loadflags = LOADED_HIGH,
		.xloadflags = XLF_KERNEL_64,
		.pref_address = 16 << 20,
		.init_size = 8 << 20,
		.initrd_addr_max = 0x7fffffff,
		.cmdline_size = 2047,
	};

	memset(k, 0x90, BZ_SIZE);
	memcpy(k + 0x1f1, &h, sizeof(h));
	memcpy(k + 2560, "payload", 7);
}

static int load(const void *k, size_t len, const char *initrd, size_t initrd_len,
		struct boot_params *bp, struct loader_entry *e, struct vps_err *err)
{
	autoclose int kfd = file_of(k, len);
	autoclose int ifd = file_of(initrd ? initrd : "", initrd ? initrd_len : 0);
	int fds[] = {ifd, ifd};
	struct loader_opts o = {.kernel = kfd,
				.cmdline = "console=ttyS0 quiet",
				.rsdp = 0xe0000,
				.initrds = fds,
				.n_initrds = initrd ? 2 : 0};
	int r = loader_load(&m, &o, e, err);

	if (r == 0)
		gmem_read(&m, e->rsi, bp, sizeof(*bp));
	return r;
}

static void test_bzimage(void **state)
{
	static uint8_t k[BZ_SIZE];
	struct boot_params bp;
	struct loader_entry e;
	char buf[32];

	bz_make(k);
	assert_int_equal(load(k, BZ_SIZE, "cpio!", 5, &bp, &e, NULL), 0);
	assert_int_equal(e.rip, 0x100200);
	gmem_read(&m, 0x100000, buf, 7);
	assert_memory_equal(buf, "payload", 7);
	assert_int_equal(bp.hdr.type_of_loader, 0xff);
	assert_int_equal(bp.acpi_rsdp_addr, 0xe0000);
	gmem_read(&m, bp.hdr.cmd_line_ptr, buf, 20);
	assert_string_equal(buf, "console=ttyS0 quiet");
	/* both initial RAM disks, each at a multiple of four, at the top */
	assert_int_equal(bp.hdr.ramdisk_size, 16);
	assert_int_equal(bp.hdr.ramdisk_image % 4096, 0);
	assert_int_equal(bp.hdr.ramdisk_image, (64 << 20) - 4096);
	gmem_read(&m, bp.hdr.ramdisk_image, buf, 16);
	assert_memory_equal(buf, "cpio!\0\0\0cpio!\0\0\0", 16);
	/* header fields end where the kernel says */
	assert_int_equal(((uint8_t *)&bp)[0x26c], 0);
	assert_int_equal(bp.e820_entries, 3);
	assert_int_equal(bp.e820_table[2].addr, 1 << 20);
	assert_int_equal(bp.e820_table[2].size, 63 << 20);
	assert_int_equal(bp.e820_table[1].type, 2);
}

static void bz_refused(const uint8_t *good, size_t at, uint64_t val, size_t n, int code)
{
	static uint8_t k[BZ_SIZE];
	struct vps_err err = {0};
	struct boot_params bp;
	struct loader_entry e;

	memcpy(k, good, BZ_SIZE);
	memcpy(k + at, &val, n);
	if (load(k, BZ_SIZE, NULL, 0, &bp, &e, &err) != -code)
		fail_msg("field at %#zx: '%s'", at, err.msg);
}

static void test_bad_bzimages(void **state)
{
	static uint8_t k[BZ_SIZE];
	struct vps_err err = {0};
	struct boot_params bp;
	struct loader_entry e;

	bz_make(k);
	bz_refused(k, 0x202, 0, 4, VPS_EUNSUPPORTED);	   /* HdrS */
	bz_refused(k, 0x206, 0x020b, 2, VPS_EUNSUPPORTED); /* version */
	bz_refused(k, 0x236, 0, 2, VPS_EUNSUPPORTED);	   /* a 32-bit kernel */
	bz_refused(k, 0x211, 0, 1, VPS_EUNSUPPORTED);	   /* zImage */
	bz_refused(k, 0x1f1, 40, 1, VPS_EUNSUPPORTED);	   /* setup longer than the file */
	bz_refused(k, 0x260, 49 << 20, 4, VPS_ERESOURCE);
	bz_refused(k, 0x258, UINT64_MAX, 8, VPS_ERESOURCE);
	bz_refused(k, 0x258, UINT64_MAX - (4 << 20), 8, VPS_ERESOURCE);
	bz_refused(k, 0x238, 5, 4, E2BIG); /* command line */
	for (size_t len = 0; len < 2600; len += 13)
		assert_true(load(k, len, NULL, 0, &bp, &e, NULL) < 0 || len > 2560);
	assert_int_equal(load("#!/bin/sh\n", 10, NULL, 0, &bp, &e, &err), -VPS_EUNSUPPORTED);
	assert_string_equal(err.msg, "the file is no kernel (bzImage or ELF)");
}

static void test_initrd_needs_room(void **state)
{
	static uint8_t k[BZ_SIZE];
	size_t len = 21 << 20; /* two of them are 2 MiB more than is free */
	char *big = calloc(1, len);
	struct vps_err err = {0};
	struct boot_params bp;
	struct loader_entry e;

	bz_make(k);
	assert_int_equal(load(k, BZ_SIZE, big, len, &bp, &e, &err), -VPS_ERESOURCE);
	assert_non_null(strstr(err.msg, "66 MiB"));
	assert_int_equal(load(k, BZ_SIZE, big, len - (1 << 20), &bp, &e, NULL), 0);
	free(big);
}

/* ---- ELF ---- */

struct elf_file {
	Elf64_Ehdr e;
	Elf64_Phdr p[3];
	char text[64];
};

static struct elf_file elf_make(void)
{
	return (struct elf_file){
		.e =
			{
				.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB,
					    EV_CURRENT},
				.e_type = ET_EXEC,
				.e_machine = EM_X86_64,
				.e_entry = 0x1000010,
				.e_phoff = sizeof(Elf64_Ehdr),
				.e_phentsize = sizeof(Elf64_Phdr),
				.e_phnum = 3,
			},
		.p =
			{
				{.p_type = PT_LOAD,
				 .p_paddr = 0x1000000,
				 .p_filesz = 64,
				 .p_memsz = 4096,
				 .p_offset = offsetof(struct elf_file, text)},
				{.p_type = PT_NOTE, .p_paddr = UINT64_MAX, .p_filesz = UINT64_MAX},
				{.p_type = PT_LOAD,
				 .p_paddr = 0x2000000,
				 .p_filesz = 4,
				 .p_memsz = 4,
				 .p_offset = offsetof(struct elf_file, text)},
			},
		.text = "kernel text",
	};
}

static void test_elf(void **state)
{
	struct elf_file f = elf_make();
	struct boot_params bp;
	struct loader_entry e;
	char buf[16] = "";

	assert_int_equal(load(&f, sizeof(f), "abcd", 4, &bp, &e, NULL), 0);
	assert_int_equal(e.rip, 0x1000010);
	gmem_read(&m, 0x1000000, buf, 11);
	assert_string_equal(buf, "kernel text");
	gmem_read(&m, 0x2000000, buf, 4);
	assert_memory_equal(buf, "kern", 4);
	assert_int_equal(bp.hdr.header, 0x53726448);
	assert_int_equal(bp.hdr.boot_flag, 0xaa55);
	assert_int_equal(bp.hdr.ramdisk_size, 8);
}

static void elf_refused(struct elf_file f, int line)
{
	struct vps_err err = {0};
	struct boot_params bp;
	struct loader_entry e;

	if (load(&f, sizeof(f), NULL, 0, &bp, &e, &err) >= 0)
		fail_msg("line %d was taken", line);
}

static void test_bad_elfs(void **state)
{
	struct elf_file f;

#define BAD(field, val)                                                                            \
	f = elf_make();                                                                            \
	f.field = val;                                                                             \
	elf_refused(f, __LINE__)
	BAD(e.e_ident[EI_CLASS], ELFCLASS32);
	BAD(e.e_machine, EM_AARCH64);
	BAD(e.e_phnum, 0);
	BAD(e.e_phnum, 65);
	BAD(e.e_phnum, 10);
	BAD(e.e_phoff, UINT64_MAX - 8);
	BAD(e.e_phentsize, 55);
	BAD(e.e_entry, 0);
	BAD(e.e_entry, 0x1000000 + 64);
	BAD(p[0].p_paddr, 0x1000);
	BAD(p[2].p_paddr, 0x1000);
	BAD(p[0].p_paddr, UINT64_MAX - 16);
	BAD(p[0].p_paddr, GMEM_HOLE);
	BAD(p[0].p_filesz, 5000);
	BAD(p[0].p_offset, UINT64_MAX);
	BAD(p[2].p_filesz, 200);
	BAD(p[2].p_memsz, UINT64_MAX);
	BAD(p[2].p_memsz, 64 << 20);
#undef BAD
}

static void test_tables(void **state)
{
	uint64_t e;

	assert_int_equal(loader_tables(&m), 0);
	/* the last 2 MiB of 4 GiB, walked by hand */
	gmem_read(&m, AT_PAGE_TABLES, &e, 8);
	gmem_read(&m, (e & ~0xfffull) + 8 * 3, &e, 8);
	gmem_read(&m, (e & ~0xfffull) + 8 * 511, &e, 8);
	assert_int_equal(e, 0xffe00083);
	gmem_read(&m, AT_GDT + LOADER_CODE, &e, 8);
	assert_int_equal(e >> 53 & 1, 1); /* long mode */
	gmem_read(&m, AT_RESET, &e, 8);
	assert_int_equal(e, 0xebf4ee0602ba42b0);
}

/* ---- ACPI ---- */

static uint8_t sum(const uint8_t *p, size_t n)
{
	uint8_t s = 0;

	while (n--)
		s += *p++;
	return s;
}

static const uint8_t *table(uint64_t at, const char *sig, uint32_t *len)
{
	const uint8_t *p = gmem_at(&m, at, 36);

	assert_non_null(p);
	assert_memory_equal(p, sig, 4);
	memcpy(len, p + 4, 4);
	assert_non_null(gmem_at(&m, at, *len));
	assert_int_equal(sum(p, *len), 0);
	return p;
}

static void test_acpi(void **state)
{
	uint64_t at, entries[2], dsdt;
	uint32_t len;
	const uint8_t *p;

	assert_int_equal(acpi_write(&m, 3, 5, &at, NULL), 0);
	p = gmem_at(&m, at, 36);
	assert_memory_equal(p, "RSD PTR ", 8);
	assert_int_equal(sum(p, 20), 0);
	assert_int_equal(sum(p, 36), 0);
	memcpy(&at, p + 24, 8);
	p = table(at, "XSDT", &len);
	assert_int_equal(len, 36 + 16);
	memcpy(entries, p + 36, 16);
	p = table(entries[0], "FACP", &len);
	assert_int_equal(len, 276);
	assert_int_equal(p[114] >> 4 & 1, 1); /* hardware-reduced */
	memcpy(&dsdt, p + 140, 8);
	table(dsdt, "DSDT", &len);
	p = table(entries[1], "APIC", &len);
	assert_int_equal(len, 44 + 3 * 8 + 12);
	assert_int_equal(p[44 + 2 * 8 + 3], 2); /* the third CPU's APIC id */
	assert_int_equal(acpi_write(&m, MAX_CPUS, MAX_DEVICES, &at, NULL), 0);
	assert_int_equal(acpi_write(&m, 0, 1, &at, NULL), -EINVAL);
	assert_int_equal(acpi_write(&m, MAX_CPUS + 1, 1, &at, NULL), -EINVAL);
	assert_int_equal(acpi_write(&m, 1, MAX_DEVICES + 1, &at, NULL), -EINVAL);
}

/* Disassembled and compiled again without a word. */
static void test_acpi_by_iasl(void **state)
{
	struct test_dir *t = NULL;
	auto_strbuf aml = STRBUF_INIT;
	unsigned ends = 0;
	autofree char *cmd = NULL, *out = NULL;
	uint64_t at, entries[2];
	uint32_t len;

	if (access("/usr/bin/iasl", X_OK) != 0) {
		print_message("skipped: no iasl (acpica-tools)\n");
		skip();
	}
	assert_int_equal(test_dir_make((void **)&t), 0);
	assert_int_equal(acpi_dsdt(MAX_DEVICES, &aml), 0);
	/* every list of resources has its whole end, which iasl does not miss */
	for (size_t i = 0; i + 6 < aml.len; i++)
		ends += memcmp(aml.s + i, "\0\0\0\x79\0", 5) == 0;
	assert_int_equal(ends, MAX_DEVICES + 2);
	assert_int_equal(fs_write_rename(t->fd, "dsdt.aml", aml.s, aml.len, 0600), 0);
	assert_int_equal(acpi_write(&m, 2, 3, &at, NULL), 0);
	memcpy(&at, m.base + at + 24, 8);
	memcpy(entries, m.base + at + 36, 16);
	for (int i = 0; i < 2; i++) {
		const uint8_t *p = table(entries[i], i ? "APIC" : "FACP", &len);

		fs_write_rename(t->fd, i ? "apic.aml" : "facp.aml", p, len, 0600);
	}
	cmd = str_fmt("cd %s && exec >log 2>&1; iasl -d dsdt.aml facp.aml apic.aml && "
		      "iasl -we -p again dsdt.dsl && iasl -p again2 facp.dsl apic.dsl",
		      t->path);

	int r = system(cmd);

	fs_read(t->fd, "log", 1 << 20, &out, NULL);
	if (r != 0 || strstr(out, "ACPI Error") || strstr(out, "ACPI Warning") ||
	    strstr(out, "Invalid"))
		fail_msg("%s", out);
	if (strstr(out, "Error ") || strstr(out, "Warning "))
		fail_msg("%s", out);
	test_dir_remove((void **)&t);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_bzimage), T(test_bad_bzimages), T(test_initrd_needs_room),
		T(test_elf),	 T(test_bad_elfs),     T(test_tables),
		T(test_acpi),	 T(test_acpi_by_iasl),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
