/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What follows the end of a run, the monitor's small files, the event log. */
#include "tests/unit/base_util.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/json.h"
#include "runtime/events.h"
#include "runtime/monitor_files.h"
#include "runtime/restart.h"

#define EXIT_WORD(code) ((code) << 8)

static void test_cause(void **state)
{
	int code;

	assert_int_equal(restart_cause(EXIT_WORD(7), false, &code), MONITOR_EXITED);
	assert_int_equal(code, 7);
	assert_int_equal(restart_cause(SIGSEGV | 0x80, false, &code), MONITOR_SIGNALED);
	assert_int_equal(code, 128 + SIGSEGV);
	assert_int_equal(restart_cause(SIGHUP, false, &code), MONITOR_REBOOT);
	assert_int_equal(code, 0);
	assert_int_equal(restart_cause(SIGINT, false, &code), MONITOR_HALT);
	assert_int_equal(code, 0);
	/* An exit code that looks like a signal is none. */
	assert_int_equal(restart_cause(EXIT_WORD(129), false, &code), MONITOR_EXITED);
	/* Whatever it was, the operator's stop is the cause. */
	assert_int_equal(restart_cause(SIGHUP, true, &code), MONITOR_STOP);
	assert_int_equal(restart_cause(SIGKILL, true, &code), MONITOR_STOP);
	assert_int_equal(code, 137);
}

static bool again(enum monitor_policy p, enum monitor_cause c, int code)
{
	return restart_decide(p, 0, c, code, 5, 0).restart;
}

static void test_policy(void **state)
{
	static const enum monitor_policy all[] = {MONITOR_RESTART_NO, MONITOR_RESTART_ON_FAILURE,
						  MONITOR_RESTART_ALWAYS};

	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		assert_false(again(all[i], MONITOR_STOP, 1));
		assert_false(again(all[i], MONITOR_HALT, 0));
		assert_true(again(all[i], MONITOR_REBOOT, 0));
	}
	assert_false(again(MONITOR_RESTART_NO, MONITOR_SIGNALED, 139));
	assert_false(again(MONITOR_RESTART_ON_FAILURE, MONITOR_EXITED, 0));
	assert_true(again(MONITOR_RESTART_ON_FAILURE, MONITOR_EXITED, 1));
	assert_true(again(MONITOR_RESTART_ON_FAILURE, MONITOR_SIGNALED, 139));
	assert_true(again(MONITOR_RESTART_ON_FAILURE, MONITOR_LOST, -1));
	assert_true(again(MONITOR_RESTART_ALWAYS, MONITOR_EXITED, 0));
}

static void test_back_off(void **state)
{
	static const unsigned want[] = {1, 2, 4, 8, 16, 32, 60, 60, 60};
	unsigned failures = 0;

	for (size_t i = 0; i < ARRAY_LEN(want); i++) {
		struct restart_decision d = restart_decide(MONITOR_RESTART_ALWAYS, 0,
							   MONITOR_EXITED, 1, 3, failures);

		assert_int_equal(d.delay_s, want[i]);
		failures = d.failures;
	}
	/* Ten minutes of health forget all of it; 9:59 do not. */
	assert_int_equal(restart_decide(MONITOR_RESTART_ALWAYS, 0, MONITOR_EXITED, 1, 599, 5).delay_s,
			 32);

	struct restart_decision d =
		restart_decide(MONITOR_RESTART_ALWAYS, 0, MONITOR_EXITED, 1, 600, 5);

	assert_int_equal(d.delay_s, 1);
	assert_int_equal(d.failures, 1);
	/* UINT_MAX failures do not shift out of the world. */
	assert_int_equal(
		restart_decide(MONITOR_RESTART_ALWAYS, 0, MONITOR_EXITED, 1, 3, 4000000000u).delay_s,
		60);
}

static void test_cap(void **state)
{
	assert_true(restart_decide(MONITOR_RESTART_ALWAYS, 3, MONITOR_EXITED, 1, 1, 2).restart);
	assert_false(restart_decide(MONITOR_RESTART_ALWAYS, 3, MONITOR_EXITED, 1, 1, 3).restart);
	assert_true(restart_decide(MONITOR_RESTART_ALWAYS, 3, MONITOR_EXITED, 1, 600, 3).restart);
}

static void test_reboot_is_at_once_but_not_for_ever(void **state)
{
	struct restart_decision d = restart_decide(MONITOR_RESTART_NO, 1, MONITOR_REBOOT, 0, 3, 0);

	assert_int_equal(d.delay_s, 0);
	d = restart_decide(MONITOR_RESTART_NO, 1, MONITOR_REBOOT, 0, 3, d.failures);
	assert_true(d.restart);
	assert_int_equal(d.delay_s, 2);
	d = restart_decide(MONITOR_RESTART_NO, 1, MONITOR_REBOOT, 0, 3600, d.failures);
	assert_int_equal(d.delay_s, 0);
}

static void test_last_round_trip(void **state)
{
	struct test_dir *t = *state;
	struct monitor_last got, l = {
		.exit_code = -1, .cause = MONITOR_LOST, .started = 1700000000, .stopped = 1700000001,
		.oom_kills = 3, .restarts = 4, .init = 4711, .init_start = 123456789012,
	};

	assert_int_equal(monitor_last_read(t->fd, &got), -ENOENT);
	assert_int_equal(monitor_last_write(t->fd, &l), 0);
	assert_int_equal(monitor_last_read(t->fd, &got), 0);
	assert_int_equal(got.exit_code, -1);
	assert_int_equal(got.cause, MONITOR_LOST);
	assert_int_equal(got.started, l.started);
	assert_int_equal(got.stopped, l.stopped);
	assert_int_equal(got.oom_kills, 3);
	assert_int_equal(got.restarts, 4);
	assert_int_equal(got.init, 4711);
	assert_int_equal(got.init_start, l.init_start);
	l.exit_code = 255;
	l.cause = MONITOR_EXITED;
	assert_int_equal(monitor_last_write(t->fd, &l), 0);
	assert_int_equal(monitor_last_read(t->fd, &got), 0);
	assert_int_equal(got.exit_code, 255);
	put_file(t->fd, "last", "cause=exited exit_code=256 started=1 stopped=1 oom_kills=0 restarts=0 "
				"init=1 init_start=1\n");
	assert_int_equal(monitor_last_read(t->fd, &got), -EINVAL);
	put_file(t->fd, "last", "");
	assert_int_equal(monitor_last_read(t->fd, &got), -EINVAL);
}

static void test_status_text_is_last(void **state)
{
	struct test_dir *t = *state;
	struct monitor_status got, s = {.phase = MONITOR_BACKOFF, .pid = 7, .ready = true,
					.restarts = 2, .failures = 3, .next = 99};

	snprintf(s.text, sizeof(s.text), "up pid=1 text=x phase=up");
	assert_int_equal(monitor_status_write(t->fd, &s), 0);
	assert_int_equal(monitor_status_read(t->fd, &got), 0);
	assert_int_equal(got.phase, MONITOR_BACKOFF);
	assert_int_equal(got.pid, 7);
	assert_true(got.ready);
	assert_int_equal(got.restarts, 2);
	assert_int_equal(got.failures, 3);
	assert_int_equal(got.next, 99);
	assert_string_equal(got.text, s.text);
}

static void test_event_line(void **state)
{
	auto_strbuf sb = STRBUF_INIT;
	const struct event_field f[] = {{.key = "code", .num = -1}, {.key = "why", .str = "a\"\n\x1b\xff\u202e\\"}};

	assert_int_equal(event_format(1750000000123456789u, 101, "web1", "exit", f, 2, &sb), 0);
	assert_string_equal(sb.s, "{\"time\":\"2025-06-15T15:06:40.123Z\",\"id\":101,\"name\":\"web1\","
				  "\"event\":\"exit\",\"code\":-1,"
				  "\"why\":\"a\\\"\\u000a\\u001b\\ufffd\\u202e\\\\\"}\n");

	auto_json j = NULL;

	assert_int_equal(json_parse(sb.s, sb.len, &j, NULL), 0);
}

static void test_event_is_bounded(void **state)
{
	auto_strbuf sb = STRBUF_INIT;
	char big[2000];
	struct event_field f[20];

	memset(big, 1, sizeof(big) - 1); /* six bytes each when written */
	big[sizeof(big) - 1] = '\0';
	for (size_t i = 0; i < ARRAY_LEN(f); i++)
		f[i] = (struct event_field){.key = "k", .str = big};
	/* Duplicate keys apart, it is still one whole line. */
	assert_int_equal(event_format(0, 1, "n", "e", f, ARRAY_LEN(f), &sb), 0);
	assert_true(sb.len <= 4096);
	assert_string_equal(sb.s + sb.len - 2, "}\n");
}

static void test_event_log_rotates(void **state)
{
	struct test_dir *t = *state;
	char big[500];
	struct event_field f = {.key = "k", .str = big};
	struct stat st;

	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	for (int i = 0; i < 5000; i++)
		assert_int_equal(event_add(t->fd, 101, "n", "start", &f, 1), 0);
	assert_int_equal(fstatat(t->fd, "events", &st, 0), 0);
	assert_true(st.st_size < EVENTS_MAX);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(fstatat(t->fd, "events.1", &st, 0), 0);
	assert_true(st.st_size >= EVENTS_MAX && st.st_size < EVENTS_MAX + 4096);
}

/* Racing writers: no line is lost or mixed. */
static void test_event_writers(void **state)
{
	struct test_dir *t = *state;
	autofree char *text = NULL;
	size_t len = 0, lines = 0;

	for (int w = 0; w < 4; w++)
		if (fork() == 0) {
			for (int i = 0; i < 500; i++)
				event_add(t->fd, (unsigned)w, "n", "start", NULL, 0);
			_exit(0);
		}
	while (wait(NULL) > 0)
		;
	assert_int_equal(fs_read(t->fd, "events", 1 << 20, &text, &len), 0);
	for (char *p = text, *line; (line = strsep(&p, "\n")) && *line; lines++) {
		auto_json j = NULL;

		assert_int_equal(json_parse(line, strlen(line), &j, NULL), 0);
	}
	assert_int_equal(lines, 2000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cause),
		cmocka_unit_test(test_policy),
		cmocka_unit_test(test_back_off),
		cmocka_unit_test(test_cap),
		cmocka_unit_test(test_reboot_is_at_once_but_not_for_ever),
		dir_test(test_last_round_trip),
		dir_test(test_status_text_is_last),
		cmocka_unit_test(test_event_line),
		cmocka_unit_test(test_event_is_bounded),
		dir_test(test_event_log_rotates),
		dir_test(test_event_writers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
