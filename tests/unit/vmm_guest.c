/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest of a few hundred instructions, for any KVM: an ELF program that our loader enters as it
 * enters Linux. It does what its command line says, tells the serial port, and switches off by
 * ACPI.
 */
#include <asm/bootparam.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;

#define RING 0x1800000ul /* queue memory, behind us */

__asm__(".globl _start\n"
	"_start: lea stack_end(%rip), %rsp\n"
	"mov %rsi, %rdi\n"
	"call guest_main\n"
	"1: hlt\njmp 1b\n"
	".local stack\n.comm stack, 16384, 16\n.set stack_end, stack + 16384\n");

void guest_main(const struct boot_params *bp);

static void outb(u16 port, u8 v)
{
	__asm__ volatile("outb %0, %1" ::"a"(v), "Nd"(port));
}
static u8 inb(u16 port)
{
	u8 v;

	__asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
	return v;
}

static void print(const char *s)
{
	for (; *s; s++) {
		while (!(inb(0x3fd) & 0x20))
			;
		outb(0x3f8, (u8)*s);
	}
}

static void print_n(u64 n)
{
	char buf[24], *p = buf + 23;

	*p = 0;
	do
		*--p = (char)('0' + n % 10);
	while (n /= 10);
	print(p);
}

static volatile u32 *reg(u64 off)
{
	return (volatile u32 *)(0xd0000000ul + off);
}

static void disk_init(void)
{
	u64 offered;

	*reg(VIRTIO_MMIO_STATUS) = 0;
	*reg(VIRTIO_MMIO_STATUS) = 1;
	*reg(VIRTIO_MMIO_STATUS) = 3;
	*reg(VIRTIO_MMIO_DEVICE_FEATURES_SEL) = 1;
	offered = (u64)*reg(VIRTIO_MMIO_DEVICE_FEATURES) << 32;
	*reg(VIRTIO_MMIO_DRIVER_FEATURES_SEL) = 1;
	*reg(VIRTIO_MMIO_DRIVER_FEATURES) = (u32)(offered >> 32 & 1);
	*reg(VIRTIO_MMIO_STATUS) = 0xb;
	*reg(VIRTIO_MMIO_QUEUE_SEL) = 0;
	*reg(VIRTIO_MMIO_QUEUE_NUM) = 8;
	*reg(VIRTIO_MMIO_QUEUE_DESC_LOW) = RING;
	*reg(VIRTIO_MMIO_QUEUE_AVAIL_LOW) = RING + 0x1000;
	*reg(VIRTIO_MMIO_QUEUE_USED_LOW) = RING + 0x2000;
	*reg(VIRTIO_MMIO_QUEUE_READY) = 1;
	*reg(VIRTIO_MMIO_STATUS) = 0xf;
	print("status ");
	print_n(*reg(VIRTIO_MMIO_STATUS));
	print("\n");
}

/* One request over the sector's data at RING + 0x4000; its status. */
static u8 disk_io(u32 type, u64 sector)
{
	volatile struct vring_desc *desc = (void *)RING;
	volatile u16 *avail = (void *)(RING + 0x1000), *used = (void *)(RING + 0x2000);
	volatile struct virtio_blk_outhdr *h = (void *)(RING + 0x3000);
	volatile u8 *status = (void *)(RING + 0x3100);
	u16 was = used[1];

	h->type = type;
	h->sector = sector;
	*status = 0xff;
	desc[0] = (struct vring_desc){(u64)h, sizeof(*h), VRING_DESC_F_NEXT, 1};
	desc[1] = (struct vring_desc){RING + 0x4000, 512,
				      VRING_DESC_F_NEXT | (type ? 0 : VRING_DESC_F_WRITE), 2};
	desc[2] = (struct vring_desc){(u64)status, 1, VRING_DESC_F_WRITE, 0};
	avail[2 + avail[1] % 8] = 0;
	__asm__ volatile("mfence" ::: "memory");
	avail[1]++;
	__asm__ volatile("mfence" ::: "memory");
	*reg(VIRTIO_MMIO_QUEUE_NOTIFY) = 0;
	while (used[1] == was)
		__asm__ volatile("pause");
	return *status;
}

static void disk(void)
{
	volatile char *data = (void *)(RING + 0x4000);
	char line[16];
	int i;

	disk_init();
	print_n(disk_io(VIRTIO_BLK_T_IN, 1));
	for (i = 0; i < 15 && data[i]; i++)
		line[i] = data[i];
	line[i] = 0;
	print(" read ");
	print(line);
	data[0] = 'G';
	print("\nwritten ");
	print_n(disk_io(VIRTIO_BLK_T_OUT, 2));
	print("\nbeyond ");
	print_n(disk_io(VIRTIO_BLK_T_IN, 1 << 30));
	print("\nisr ");
	print_n(*reg(VIRTIO_MMIO_INTERRUPT_STATUS));
	print("\n");
}

/* Read for ever. */
static void io(void)
{
	disk_init();
	for (;;)
		if (disk_io(VIRTIO_BLK_T_IN, 1))
			print("bad\n");
}

/* Change pages, some of them to nothing, and read from the disk meanwhile. */
static void dirty(void)
{
	disk_init();
	for (u64 n = 1;; n++) {
		volatile u64 *page = (void *)(RING + 0x100000 + (n * 7919 % 1024 << 12));

		for (int i = 0; i < 512; i += 64)
			page[i] = n % 3 ? n + (u64)i : 0;
		if (n % 256 == 0 && disk_io(VIRTIO_BLK_T_IN, 1))
			print("bad\n");
	}
}

/* Hypervisor, CPU's number, deadline timer; what must not be seen. */
static void cpuid(void)
{
	u32 a = 1, b, c, d;

	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "=c"(c), "=d"(d));
	print("hypervisor ");
	print_n(c >> 31);
	print(" apic ");
	print_n(b >> 24);
	print(" vmx ");
	print_n(c >> 5 & 1);
	print("\n");
}

static int is(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return !*a && !*b;
}

void guest_main(const struct boot_params *bp)
{
	const char *cmd = (const char *)(u64)bp->hdr.cmd_line_ptr;

	print("guest: ");
	print(cmd);
	print("\n");
	if (is(cmd, "disk"))
		disk();
	if (is(cmd, "cpuid"))
		cpuid();
	if (is(cmd, "nothing there")) {
		print_n(*reg(0x8000));
		print(" ");
		print_n(inb(0x71));
		print("\n");
	}
	if (is(cmd, "io"))
		io();
	if (is(cmd, "dirty"))
		dirty();
	if (is(cmd, "panic"))
		print("[    0.1] Kernel panic - not syncing: \033[2Jno root\r\n");
	if (is(cmd, "panic") || is(cmd, "reset"))
		outb(0x602, 0x42);
	if (is(cmd, "count"))
		for (volatile u64 *n = (void *)RING;;)
			++*n;
	if (is(cmd, "fault"))
		__asm__ volatile("ud2");
	outb(0x600, 5 << 2 | 0x20);
}
