/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whole machines on /dev/kvm, a software one included, with the guest of vmm_guest.c; and the CPUID
 * filter. */
#include "tests/unit/base_util.h"

#include <errno.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/sys.h"
#include "vmm/kvm.h"
#include "vmm/machine.h"

#define MEMORY (32ull << 20)

static int kvm;

struct bench {
	struct vm vm;
	struct serial com;
	struct blk blk;
	struct loop loop;
	int disk, out;
	char text[4096];
};

static struct bench m;

static int setup(void **state)
{
	struct vps_err err = {0};

	memset(&m, 0, sizeof(m));
	m.disk = memfd_create("disk", MFD_CLOEXEC);
	m.out = memfd_create("console", MFD_CLOEXEC);
	if (m.disk < 0 || m.out < 0 || ftruncate(m.disk, 1 << 20) < 0 ||
	    pwrite(m.disk, "sector one", 10, 512) != 10)
		return -1;
	if (serial_init(&m.com) || loop_init(&m.loop))
		return -1;
	if (vm_create(&m.vm, kvm, MEMORY, -1, 1, &err) ||
	    blk_init(&m.blk, &m.vm.mem, &(struct blk_opts){.fd = m.disk}, &err) ||
	    vm_add_device(&m.vm, &m.blk.dev, &err) || vm_set_serial(&m.vm, &m.com, &err)) {
		print_message("%s\n", err.msg);
		return -1;
	}
	return serial_attach(&m.com, &m.loop, -1, m.out);
}

static int teardown(void **state)
{
	vm_destroy(&m.vm);
	blk_done(&m.blk);
	serial_done(&m.com);
	loop_done(&m.loop);
	close(m.disk);
	close(m.out);
	return 0;
}

static void load(const char *cmd)
{
	struct vps_err err = {0};
	autofree char *path = str_fmt("%s/tests/unit/vmm_guest", getenv("VPS_LIBEXEC") ?: ".");
	autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct loader_opts o = {.kernel = fd, .cmdline = cmd, .rsdp = AT_ACPI};
	struct loader_entry e;

	assert_true(fd >= 0);
	if (loader_load(&m.vm.mem, &o, &e, &err) < 0 || vm_set_entry(&m.vm, &e, &err) < 0 ||
	    blk_start(&m.blk, &err) < 0 || vm_start(&m.vm, &err) < 0)
		fail_msg("%s", err.msg);
}

static enum vm_end await(int ms, char *why)
{
	struct pollfd p = {.fd = m.vm.ended_fd, .events = POLLIN};
	uint64_t end = sys_now_mono() + (uint64_t)ms * 1000000;
	ssize_t n;

	while (poll(&p, 1, 1) == 0 && sys_now_mono() < end)
		loop_once(&m.loop, 0);
	while (loop_once(&m.loop, 0) > 0)
		;
	n = pread(m.out, m.text, sizeof(m.text) - 1, 0);
	m.text[n > 0 ? n : 0] = 0;
	return vm_end_of(&m.vm, why, 128);
}

static void run(const char *cmd, enum vm_end end, const char *text)
{
	char why[128];

	load(cmd);
	vm_resume(&m.vm);

	enum vm_end got = await(5000, why);

	if (got != end || strcmp(m.text, text) != 0)
		fail_msg("end %d (%s), console: '%s'", got, why, m.text);
}

static void test_serial_and_poweroff(void **state)
{
	run("hello", VM_POWEROFF, "guest: hello\n");
	assert_true(m.vm.cpus[0].n_pio > 26);
}

static void test_disk(void **state)
{
	char c = 0;

	run("disk", VM_POWEROFF,
	    "guest: disk\nstatus 15\n0 read sector one\nwritten 0\nbeyond 1\nisr 1\n");
	assert_int_equal(pread(m.disk, &c, 1, 1024), 1);
	assert_int_equal(c, 'G');
}

static void test_cpuid_inside(void **state)
{
	run("cpuid", VM_POWEROFF, "guest: cpuid\nhypervisor 1 apic 0 vmx 0\n");
}

static void test_nothing_there(void **state)
{
	run("nothing there", VM_POWEROFF, "guest: nothing there\n4294967295 255\n");
}

static void test_reset(void **state)
{
	run("reset", VM_RESET, "guest: reset\n");
}

/* No IDT: a triple fault, which is how some guests reboot. A KVM may call it an error of its own.
 */
static void test_fault(void **state)
{
	char why[128];

	load("fault");
	vm_resume(&m.vm);

	enum vm_end got = await(5000, why);

	if (got != VM_RESET && got != VM_FAILED)
		fail_msg("end %d (%s)", got, why);
	assert_string_equal(m.text, "guest: fault\n");
}

static uint64_t counter(void)
{
	uint64_t n;

	gmem_read(&m.vm.mem, 0x1800000, &n, 8);
	return n;
}

static void test_pause_and_stop(void **state)
{
	char why[128];

	load("count");
	await(20, why);
	assert_string_equal(m.text, ""); /* not an instruction before it is let go */
	vm_resume(&m.vm);
	for (int i = 0; i < 5; i++) {
		uint64_t n;

		for (n = counter(); counter() == n;)
			await(1, why);
		vm_pause(&m.vm);
		n = counter();
		usleep(3000);
		assert_int_equal(counter(), n);
		vm_resume(&m.vm);
	}
	vm_stop(&m.vm);
	assert_int_equal(vm_end_of(&m.vm, why, sizeof(why)), VM_STOPPED);
	assert_string_equal(why, "stopped");
	vm_stop(&m.vm);
	vm_press_power(&m.vm);
}

static void test_limits(void **state)
{
	struct vps_err err = {0};
	struct vm vm;

	assert_int_equal(vm_create(&vm, kvm, MEMORY, -1, 0, &err), -EINVAL);
	assert_int_equal(vm_create(&vm, kvm, MEMORY, -1, MAX_CPUS + 1, NULL), -EINVAL);
	assert_int_equal(vm_create(&vm, kvm, 4096, -1, 1, NULL), -EINVAL);

	unsigned fds = count_fds();

	assert_int_equal(vm_create(&vm, kvm, 5ull << 30, -1, 4, NULL), 0);
	vm_destroy(&vm);
	assert_int_equal(count_fds(), fds);
	for (unsigned i = 1; i < MAX_DEVICES; i++)
		m.vm.devices[m.vm.n_devices++] = &m.blk.dev;
	assert_int_equal(vm_add_device(&m.vm, &m.blk.dev, NULL), -E2BIG);
}

/* All of it by machine_new, as vps-vmm does: two CPUs (the second waits), every kind of device. */
static void test_whole_machine(void **state)
{
	autofree char *path = str_fmt("%s/tests/unit/vmm_guest", getenv("VPS_LIBEXEC") ?: ".");
	struct machine_opts o = MACHINE_OPTS_INIT;
	struct vps_err err = {0};
	struct machine *x = NULL;
	int wire[2], code;
	char why[128];
	ssize_t n;

	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, wire), 0);
	o.memory = MEMORY;
	o.cpus = 2;
	o.kernel = open(path, O_RDONLY | O_CLOEXEC);
	o.initrds[o.n_initrds++] = o.kernel;
	o.cmdline = "disk";
	o.console_out = m.out;
	o.disks[o.n_disks++] = (struct blk_opts){.fd = m.disk, .serial = "one"};
	o.nets[o.n_nets++] = (struct net_opts){.tap = wire[0]};
	if (!kvm_in_hardware()) {
		assert_int_equal(machine_new(&o, &x, &err), -VPS_EUNSUPPORTED);
		assert_non_null(strstr(err.msg, "hardware virtualisation"));
		vps_err_clear(&err);
	}

	unsigned fds = count_fds();

	o.any_kvm = true;
	if (machine_new(&o, &x, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(x->vm.n_devices, 5);
	assert_int_equal(machine_run(x, &code, why, sizeof(why)), VM_POWEROFF);
	assert_null(machine_free(x));
	n = pread(m.out, m.text, sizeof(m.text) - 1, 0);
	m.text[n > 0 ? n : 0] = 0;
	assert_non_null(strstr(m.text, "0 read sector one"));
	/* what fails late is taken down whole */
	o.cmdline = "";
	o.memory = 18 << 20;
	assert_int_equal(machine_new(&o, &x, &err), 0);
	machine_free(x);
	o.memory = 16 << 20;
	assert_int_equal(machine_new(&o, &x, &err), -VPS_ERESOURCE);
	o.n_disks = MACHINE_DISKS + 1;
	assert_int_equal(machine_new(&o, &x, NULL), -E2BIG);
	assert_int_equal(count_fds(), fds);
	close(o.kernel);
	close(wire[0]);
	close(wire[1]);
}

/* ---- CPUID, everywhere ---- */

static struct cpuid_table *table(void)
{
	static const struct kvm_cpuid_entry2 all[] = {
		{.function = 1,
		 .eax = 0xf00,
		 .ebx = 0xff800800,
		 .ecx = 0x7fffffff,
		 .edx = 0xefffffff},
		{.function = 4, .index = 0, .eax = 0xfc004121},
		{.function = 4, .index = 3, .eax = 0xfc004163},
		{.function = 0xa, .eax = 7},
		{.function = 0xb, .index = 0},
		{.function = 0xb, .index = 1},
		{.function = 0x80000001, .ecx = 0xffffffff},
		{.function = 0x8000000a, .eax = 1},
	};
	struct cpuid_table *t = calloc(1, sizeof(*t));

	t->nent = ARRAY_LEN(all);
	memcpy(t->entry, all, sizeof(all));
	return t;
}

static void test_cpuid_filter(void **state)
{
	autofree struct cpuid_table *t = table();
	const struct kvm_cpuid_entry2 *e = t->entry;

	kvm_filter_cpuid(t, 2, 3, true);
	assert_int_equal(e[0].ebx, 0x02030800);
	assert_int_equal(e[0].ecx >> 31, 1);
	assert_int_equal(e[0].ecx >> 24 & 1, 1);
	assert_int_equal(e[0].ecx >> 5 & 1, 0); /* VMX */
	assert_int_equal(e[0].edx >> 28 & 1, 1);
	assert_int_equal(e[1].eax >> 14 & 0xfff, 0);
	assert_int_equal(e[1].eax >> 26, 2);
	assert_int_equal(e[2].eax >> 14 & 0xfff, 2);
	assert_int_equal(e[3].eax, 0);
	assert_int_equal(e[4].edx, 2);
	assert_int_equal(e[4].ecx, 0x100);
	assert_int_equal(e[5].eax, 2);
	assert_int_equal(e[5].ebx, 3);
	assert_int_equal(e[5].ecx, 0x201);
	assert_int_equal(e[6].ecx >> 2 & 1, 0); /* SVM */
	assert_int_equal(e[7].eax, 0);
	kvm_filter_cpuid(t, 0, 1, false);
	assert_int_equal(e[0].ecx >> 24 & 1, 0);
	assert_int_equal(e[0].edx >> 28 & 1, 0);
	assert_int_equal(e[5].eax, 0);
}

/* What the kernel says of this CPU and what we say are the same. */
static void test_hardware_is_told(void **state)
{
	autofree char *info = NULL;
	struct vps_err err = {0};

	assert_int_equal(fs_read(AT_FDCWD, "/proc/cpuinfo", 8 << 20, &info, NULL), 0);

	bool hw = strstr(info, " vmx ") || strstr(info, " svm ");

	assert_int_equal(kvm_in_hardware(), hw);
	assert_int_equal(kvm_check_stock_kernel(&err), hw ? 0 : -VPS_EUNSUPPORTED);
	assert_int_equal(err.code, hw ? 0 : VPS_EUNSUPPORTED);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest pure[] = {
		cmocka_unit_test(test_cpuid_filter),
		cmocka_unit_test(test_hardware_is_told),
	};
	const struct CMUnitTest machines[] = {
		T(test_serial_and_poweroff), T(test_disk),   T(test_cpuid_inside),
		T(test_nothing_there),	     T(test_reset),  T(test_fault),
		T(test_pause_and_stop),	     T(test_limits), T(test_whole_machine),
	};
	struct vps_err err = {0};
	int r = cmocka_run_group_tests(pure, NULL, NULL);

	kvm = kvm_open(-1, &err);
	if (kvm < 0) {
		printf("ok 3 - machines # SKIP %s\n", err.msg);
		return r;
	}
	r |= cmocka_run_group_tests(machines, NULL, NULL);
	close(kvm);
	return r;
}
