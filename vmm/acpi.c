/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/acpi.h"

#include <errno.h>
#include <stdio.h>

#include "vmm/serial.h"

/* ---- AML (ACPI 6.4, 20.2): bytes into a strbuf, packages by their finished content ---- */

#define OP_NAME	   0x08
#define OP_BYTE	   0x0a
#define OP_DWORD   0x0c
#define OP_STRING  0x0d
#define OP_SCOPE   0x10
#define OP_BUFFER  0x11
#define OP_PACKAGE 0x12
#define OP_METHOD  0x14
#define OP_EXT	   0x5b
#define OP_DEVICE  0x82
#define OP_NOTIFY  0x86

static void add8(struct strbuf *b, unsigned v)
{
	sb_addc(b, (char)v);
}

static void add16(struct strbuf *b, unsigned v)
{
	add8(b, v & 0xff);
	add8(b, v >> 8 & 0xff);
}

static void add32(struct strbuf *b, uint32_t v)
{
	add16(b, v & 0xffff);
	add16(b, v >> 16);
}

static void add64(struct strbuf *b, uint64_t v)
{
	add32(b, (uint32_t)v);
	add32(b, (uint32_t)(v >> 32));
}

/* The length counts its own bytes: 1 up to 63, else 2 to 4 with four bits in the first. */
static void add_package(struct strbuf *b, const struct strbuf *content)
{
	size_t n = content->len, more = n + 1 <= 0x3f	   ? 0
					: n + 2 <= 0xfff   ? 1
					: n + 3 <= 0xfffff ? 2
							   : 3;

	n += more + 1;
	if (!more) {
		add8(b, (unsigned)n);
	} else {
		add8(b, (unsigned)(more << 6 | (n & 0xf)));
		for (size_t i = 0; i < more; i++)
			add8(b, n >> (4 + 8 * i) & 0xff);
	}
	sb_addn(b, content->s, content->len);
	b->oom |= content->oom;
}

static void add_name(struct strbuf *b, const char *name)
{
	add8(b, OP_NAME);
	sb_add(b, name);
}

static void name_int(struct strbuf *b, const char *name, uint32_t v)
{
	add_name(b, name);
	add8(b, OP_DWORD);
	add32(b, v);
}

static void name_string(struct strbuf *b, const char *name, const char *v)
{
	add_name(b, name);
	add8(b, OP_STRING);
	sb_addn(b, v, strlen(v) + 1);
}

/* "PNP" and four hex digits, compressed (19.3.4). */
static void name_pnp(struct strbuf *b, unsigned id)
{
	add_name(b, "_HID");
	add8(b, OP_DWORD);
	add16(b, 0xd041);
	add16(b, id >> 8 | (id & 0xff) << 8);
}

static void add_device(struct strbuf *b, const struct strbuf *content)
{
	add8(b, OP_EXT);
	add8(b, OP_DEVICE);
	add_package(b, content);
}

/* ---- resources (6.4) ---- */

static void res_port(struct strbuf *b, unsigned port, unsigned len)
{
	add8(b, 0x47);
	add8(b, 1); /* 16 bits decoded */
	add16(b, port);
	add16(b, port);
	add8(b, 1);
	add8(b, len);
}

static void res_memory(struct strbuf *b, uint32_t at, uint32_t len)
{
	add8(b, 0x86);
	add16(b, 9);
	add8(b, 1); /* writable */
	add32(b, at);
	add32(b, len);
}

/* Edge, active high, exclusive. */
static void res_irq(struct strbuf *b, uint32_t gsi)
{
	add8(b, 0x89);
	add16(b, 6);
	add8(b, 3);
	add8(b, 1);
	add32(b, gsi);
}

static void name_resources(struct strbuf *b, struct strbuf *res)
{
	auto_strbuf content = STRBUF_INIT;

	add16(res, 0x79); /* the end, without a checksum */
	add8(&content, OP_BYTE);
	add8(&content, (unsigned)res->len);
	sb_addn(&content, res->s, res->len);
	content.oom |= res->oom;
	add_name(b, "_CRS");
	add8(b, OP_BUFFER);
	add_package(b, &content);
}

/* ---- the devices ---- */

static void com1(struct strbuf *b)
{
	auto_strbuf dev = STRBUF_INIT;
	auto_strbuf res = STRBUF_INIT;

	sb_add(&dev, "COM1");
	name_pnp(&dev, 0x0501);
	name_int(&dev, "_UID", 0);
	res_port(&res, SERIAL_PORT, 8);
	res_irq(&res, SERIAL_IRQ);
	name_resources(&dev, &res);
	add_device(b, &dev);
}

static void virtio(struct strbuf *b, unsigned n)
{
	auto_strbuf dev = STRBUF_INIT;
	auto_strbuf res = STRBUF_INIT;

	sb_addf(&dev, "V%03u", n);
	name_string(&dev, "_HID", "LNRO0005");
	name_int(&dev, "_UID", n);
	name_int(&dev, "_CCA", 1);
	res_memory(&res, (uint32_t)(AT_DEVICES + n * DEVICE_SIZE), DEVICE_SIZE);
	res_irq(&res, GSI_DEVICES + n);
	name_resources(&dev, &res);
	add_device(b, &dev);
}

/* A button whose presses come as the only interrupt of the event device. */
static void power_button(struct strbuf *b)
{
	auto_strbuf button = STRBUF_INIT;
	auto_strbuf ged = STRBUF_INIT;
	auto_strbuf res = STRBUF_INIT;
	auto_strbuf evt = STRBUF_INIT;

	sb_add(&button, "PWRB");
	name_pnp(&button, 0x0c0c);
	add_device(b, &button);

	sb_add(&ged, "GED_");
	name_string(&ged, "_HID", "ACPI0013");
	res_irq(&res, GSI_POWER);
	name_resources(&ged, &res);
	sb_add(&evt, "_EVT");
	add8(&evt, 1 | 8); /* one argument, serialized */
	add8(&evt, OP_NOTIFY);
	sb_add(&evt, "PWRB");
	add8(&evt, OP_BYTE);
	add8(&evt, 0x80);
	add8(&ged, OP_METHOD);
	add_package(&ged, &evt);
	add_device(b, &ged);
}

static void add_header(struct strbuf *b, const char *sig, unsigned rev)
{
	sb_add(b, sig);
	add32(b, 0); /* length, by finish */
	add8(b, rev);
	add8(b, 0); /* checksum, by finish */
	sb_addn(b, "VPS   VPSVMM  ", 14);
	add32(b, 1);
	sb_addn(b, "VPS ", 4);
	add32(b, 1);
}

static uint8_t sum(const void *p, size_t n)
{
	uint8_t s = 0;

	for (size_t i = 0; i < n; i++)
		s += ((const uint8_t *)p)[i];
	return s;
}

/* Length and checksum of a table. */
static int finish(struct strbuf *b)
{
	uint32_t len = (uint32_t)b->len;

	if (sb_ok(b) < 0)
		return -ENOMEM;
	memcpy(b->s + 4, &len, 4);
	b->s[9] = (char)-sum(b->s, b->len);
	return 0;
}

int acpi_dsdt(unsigned devices, struct strbuf *ret)
{
	auto_strbuf sb = STRBUF_INIT;
	auto_strbuf s5 = STRBUF_INIT;

	add_header(ret, "DSDT", 2);
	sb_add(&sb, "\\_SB_");
	com1(&sb);
	for (unsigned i = 0; i < devices; i++)
		virtio(&sb, i);
	power_button(&sb);
	add8(ret, OP_SCOPE);
	add_package(ret, &sb);

	/* Name (_S5, Package {SLP_TYP, 0, 0, 0}) */
	add_name(ret, "\\_S5_");
	add8(ret, OP_PACKAGE);
	add8(&s5, 4);
	add8(&s5, OP_BYTE);
	add8(&s5, SLEEP_TYPE_S5);
	for (int i = 0; i < 3; i++)
		add8(&s5, 0);
	add_package(ret, &s5);
	return finish(ret);
}

/* ---- the fixed tables ---- */

static void add_zeroes(struct strbuf *b, size_t to)
{
	while (b->len < to && !b->oom)
		add8(b, 0);
}

/* A generic address (5.2.3.2): one byte wide, in port space; at a fixed offset of the table. */
static void gas_at(struct strbuf *b, size_t off, unsigned port)
{
	add_zeroes(b, off);
	add8(b, 1);
	add8(b, 8);
	add8(b, 0);
	add8(b, 1);
	add64(b, port);
}

/* 5.2.9, revision 6.4. Without an RTC, VGA and 8042, or the kernel looks for them for seconds. */
static int fadt(struct strbuf *b, uint64_t dsdt)
{
	add_header(b, "FACP", 6);
	add_zeroes(b, 109);
	add16(b, 1u << 2 | 1u << 3 | 1u << 4 | 1u << 5); /* no VGA, no MSI, no ASPM, no RTC */
	add_zeroes(b, 112);
	/* WBINVD, both buttons are devices, reset register, hardware-reduced */
	add32(b, 1u << 0 | 1u << 4 | 1u << 5 | 1u << 10 | 1u << 20);
	gas_at(b, 116, PORT_RESET);
	add8(b, RESET_VALUE);
	add_zeroes(b, 131);
	add8(b, 4);
	add_zeroes(b, 140);
	add64(b, dsdt);
	gas_at(b, 244, PORT_SLEEP_CONTROL);
	gas_at(b, 256, PORT_SLEEP_STATUS);
	sb_addn(b, "VPS\0\0\0\0", 8); /* hypervisor vendor */
	return finish(b);
}

static int madt(struct strbuf *b, unsigned cpus)
{
	add_header(b, "APIC", 5);
	add32(b, AT_LAPIC);
	add32(b, 0); /* no 8259s */
	for (unsigned i = 0; i < cpus; i++) {
		add16(b, 0 | 8 << 8);
		add8(b, i);  /* processor */
		add8(b, i);  /* APIC */
		add32(b, 1); /* enabled */
	}
	add16(b, 1 | 12 << 8);
	add16(b, cpus); /* its id, after those of the CPUs */
	add32(b, AT_IOAPIC);
	add32(b, 0);
	return finish(b);
}

static int xsdt(struct strbuf *b, uint64_t fadt_at, uint64_t madt_at)
{
	add_header(b, "XSDT", 1);
	add64(b, fadt_at);
	add64(b, madt_at);
	return finish(b);
}

static void rsdp(struct strbuf *b, uint64_t xsdt_at)
{
	sb_add(b, "RSD PTR ");
	add8(b, 0);
	sb_addn(b, "VPS   ", 6);
	add8(b, 2);
	add32(b, 0);
	add32(b, 36);
	add64(b, xsdt_at);
	add32(b, 0);
	if (b->oom)
		return;
	b->s[8] = (char)-sum(b->s, 20);
	b->s[32] = (char)-sum(b->s, 36);
}

/* Put a table at *at and move on. */
static int put(const struct gmem *m, const struct strbuf *b, uint64_t *at)
{
	if (b->oom)
		return -ENOMEM;
	if (*at + b->len > AT_ACPI + ACPI_MAX)
		return -ENOSPC;

	int r = gmem_write(m, *at, b->s, b->len);

	*at = (*at + b->len + 15) & ~15ull;
	return r;
}

int acpi_write(const struct gmem *m, unsigned cpus, unsigned devices, uint64_t *ret_rsdp,
	       struct vps_err *err)
{
	auto_strbuf t_dsdt = STRBUF_INIT;
	auto_strbuf t_fadt = STRBUF_INIT;
	auto_strbuf t_madt = STRBUF_INIT;
	auto_strbuf t_xsdt = STRBUF_INIT;
	auto_strbuf t_rsdp = STRBUF_INIT;
	uint64_t at = AT_ACPI + 64, dsdt_at = at, fadt_at, madt_at, xsdt_at, rsdp_at = AT_ACPI;
	int r;

	if (!cpus || cpus > MAX_CPUS || devices > MAX_DEVICES)
		return vps_err_set(err, EINVAL, "ACPI tables of %u CPUs and %u devices", cpus,
				   devices);
	r = acpi_dsdt(devices, &t_dsdt);
	if (r == 0)
		r = put(m, &t_dsdt, &at);
	fadt_at = at;
	if (r == 0)
		r = fadt(&t_fadt, dsdt_at);
	if (r == 0)
		r = put(m, &t_fadt, &at);
	madt_at = at;
	if (r == 0)
		r = madt(&t_madt, cpus);
	if (r == 0)
		r = put(m, &t_madt, &at);
	xsdt_at = at;
	if (r == 0)
		r = xsdt(&t_xsdt, fadt_at, madt_at);
	if (r == 0)
		r = put(m, &t_xsdt, &at);
	rsdp(&t_rsdp, xsdt_at);
	if (r == 0)
		r = put(m, &t_rsdp, &rsdp_at);
	if (r < 0)
		return vps_err_sys(err, r, "write the ACPI tables");
	*ret_rsdp = AT_ACPI;
	return 0;
}
