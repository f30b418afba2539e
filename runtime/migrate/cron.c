// SPDX-License-Identifier: GPL-2.0-or-later
/* Times as crontab(5) has them: minute hour day-of-month month day-of-week; and names made of times. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "runtime/migrate/migrate.h"

#define LOOK_BACK_DAYS 366

static const char *const months[] = {"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov",
				     "dec", NULL};
static const char *const weekdays[] = {"sun", "mon", "tue", "wed", "thu", "fri", "sat", NULL};

struct field {
	const char *what;
	unsigned min, max;
	const char *const *names; /* of min, min + 1, … */
};

static int number(const struct field *f, const char *s, size_t len, unsigned *ret)
{
	char buf[8];
	uint64_t v;

	if (len == 0 || len >= sizeof(buf))
		return -EINVAL;
	memcpy(buf, s, len);
	buf[len] = '\0';
	for (unsigned i = 0; f->names && f->names[i]; i++)
		if (strcasecmp(f->names[i], buf) == 0) {
			*ret = f->min + i;
			return 0;
		}
	if (parse_u64(buf, f->max, &v) < 0 || v < f->min)
		return -EINVAL;
	*ret = (unsigned)v;
	return 0;
}

/* "*", "5", "1-5", each with "/step". */
static int part(const struct field *f, const char *s, size_t len, uint64_t *bits)
{
	const char *slash = memchr(s, '/', len);
	size_t n = slash ? (size_t)(slash - s) : len;
	const char *dash = memchr(s, '-', n);
	unsigned from = f->min, to = f->max, step = 1;
	int r = 0;

	if (slash)
		r = number(&(struct field){"step", 1, f->max}, slash + 1, len - n - 1, &step);
	if (r == 0 && !(n == 1 && *s == '*')) {
		r = number(f, s, dash ? (size_t)(dash - s) : n, &from);
		to = from;
		if (r == 0 && dash)
			r = number(f, dash + 1, n - (size_t)(dash - s) - 1, &to);
		else if (slash)
			to = f->max;
	}
	if (r < 0 || from > to)
		return -EINVAL;
	for (unsigned i = from; i <= to; i += step)
		*bits |= 1ull << i;
	return 0;
}

static int field(const struct field *f, const char *s, uint64_t *ret, struct vps_err *err)
{
	auto_strv parts = NULL;
	int r = strv_split(s, ",", &parts);

	*ret = 0;
	for (char **p = parts; r == 0 && p && *p; p++)
		r = part(f, *p, strlen(*p), ret);
	return r < 0 ? vps_err_set(err, VPS_EUSAGE, "'%.40s' is no %s of a schedule (from %u to %u, as in crontab(5): "
				   "'*', '5', '1-5', '*/10', '1,3')", s, f->what, f->min, f->max)
		     : 0;
}

static const char *alias(const char *text)
{
	static const char *const words[][2] = {
		{"@hourly", "0 * * * *"},  {"@daily", "0 0 * * *"},   {"@midnight", "0 0 * * *"},
		{"@weekly", "0 0 * * 0"},  {"@monthly", "0 0 1 * *"}, {"@yearly", "0 0 1 1 *"},
		{"@annually", "0 0 1 1 *"},
	};

	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		if (str_eq(text, words[i][0]))
			return words[i][1];
	return text;
}

int cron_parse(const char *text, struct cron *ret, struct vps_err *err)
{
	static const struct field fields[] = {
		{"minute", 0, 59, NULL},     {"hour", 0, 23, NULL},	 {"day of the month", 1, 31, NULL},
		{"month", 1, 12, months}, {"day of the week", 0, 7, weekdays},
	};
	autofree char *copy = strdup(alias(text));
	char *rest = copy, *word;
	uint64_t v[5];
	size_t n = 0;
	struct cron c = {0};

	if (!copy)
		return vps_err_sys(err, -ENOMEM, "schedule");
	while ((word = strsep(&rest, " \t"))) {
		int r;

		if (!*word)
			continue;
		if (n == 5)
			n++;
		if (n > 5)
			break;
		r = field(&fields[n], word, &v[n], err);
		if (r < 0)
			return r;
		if (n == 2)
			c.any_day = *word == '*';
		if (n == 4)
			c.any_weekday = *word == '*';
		n++;
	}
	if (n != 5)
		return vps_err_set(err, VPS_EUSAGE, "'%.60s' is no schedule: five fields as in crontab(5), for example "
				   "'0 3 * * *', or @hourly, @daily, @weekly, @monthly", text);
	c.minutes = v[0];
	c.hours = (uint32_t)v[1];
	c.days = (uint32_t)v[2];
	c.months = (uint32_t)v[3];
	c.weekdays = (uint32_t)(v[4] | (v[4] >> 7 & 1)); /* 7 is Sunday, too */
	*ret = c;
	return 0;
}

/* When both days are restricted, either will do: crontab(5). */
static bool is_day(const struct cron *c, const struct tm *tm)
{
	bool day = c->days >> tm->tm_mday & 1, weekday = c->weekdays >> tm->tm_wday & 1;

	if (!(c->months >> (tm->tm_mon + 1) & 1))
		return false;
	return c->any_day || c->any_weekday ? day && weekday : day || weekday;
}

/* The last minute before tm's day, which may have 23 hours, or 25. */
static uint64_t day_before(const struct tm *tm, uint64_t t)
{
	struct tm midnight = {.tm_year = tm->tm_year, .tm_mon = tm->tm_mon, .tm_mday = tm->tm_mday, .tm_isdst = -1};
	time_t m = mktime(&midnight);

	return m > 0 && (uint64_t)m <= t ? (uint64_t)m - 60 : t - 60;
}

/* Minute by minute, but over days and hours that are not meant at once. */
uint64_t cron_last(const struct cron *c, uint64_t after, uint64_t until)
{
	uint64_t earliest = until > LOOK_BACK_DAYS * 86400ull ? until - LOOK_BACK_DAYS * 86400ull : 0;

	if (after > earliest)
		earliest = after;
	for (uint64_t t = until - until % 60; t > earliest && t > 86400;) {
		time_t tt = (time_t)t;
		struct tm tm;

		if (!localtime_r(&tt, &tm))
			return 0;
		if (!is_day(c, &tm))
			t = day_before(&tm, t);
		else if (!(c->hours >> tm.tm_hour & 1))
			t -= (uint64_t)tm.tm_min * 60 + 60;
		else if (c->minutes >> tm.tm_min & 1)
			return t;
		else
			t -= 60;
	}
	return 0;
}

int pattern_name(const char *pattern, const struct tm *tm, char *ret)
{
	char name[SPEC_NAME_MAX + 1];

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* the operator's own, and of characters that names have */
	if (strftime(name, sizeof(name), pattern, tm) == 0 || spec_name_check(name, NULL) < 0)
		return -EINVAL;
#pragma GCC diagnostic pop
	strcpy(ret, name);
	return 0;
}
