/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "images/registry.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/mem.h"
#include "base/sys.h"
#include "images/registry_http.h"

#define REDIRECTS     5
#define LOGINS	      3
#define BACKOFF_MS    500u
#define BACKOFF_MAX   (30 * 1000u)
#define PATIENCE_S    120 /* a Retry-After beyond this is a no */
#define PROGRESS_FREE (1u << 20) /* bytes that buy back all tries */
#define TICK_MS	      200

struct reg {
	const struct img_ref *ref;
	const struct progress *progress;
	struct http_conf conf;
	struct http *http;
	struct reg_login login;
	char *auth;	   /* Authorization's value; NULL: none yet */
	unsigned auth_age; /* counts the logins: a 401 for an older one just goes again */
	unsigned parallel, retries;
};

/* One thing to fetch, through redirects, logins and retries. */
struct job {
	struct reg *g;
	char *url, *redirect;
	const char *accept;
	struct img_ingest *in; /* or */
	struct reg_doc *doc;
	uint64_t total;
	unsigned key;
	char what[40]; /* for humans */

	enum { WAITING, RUNNING, DONE } state;
	struct http_xfer x;
	struct vps_err err; /* of the sink */
	uint64_t not_before; /* sys_now_mono */
	uint64_t mark;	     /* bytes when tries was last zero */
	unsigned tries, redirects, logins, auth_age;
	bool begun; /* bytes of this answer came */
	bool fresh; /* was begun anew after a bad digest of a resumed one */
};

static void job_done(struct job *j)
{
	if (j->g)
		http_drop(j->g->http, &j->x);
	free(j->url);
	free(j->redirect);
	j->url = j->redirect = NULL;
}

/* ---- the sink ------------------------------------------------------------- */

static uint64_t job_bytes(const struct job *j)
{
	return j->in ? img_ingest_bytes(j->in) : j->doc->text.len;
}

static int job_restart(struct job *j, struct vps_err *err)
{
	j->mark = 0;
	if (j->in)
		return img_ingest_restart(j->in, err);
	sb_reset(&j->doc->text);
	return 0;
}

static bool job_tell(struct job *j)
{
	return progress_tell(j->g->progress, j->key, j->what, job_bytes(j), j->total);
}

/* First bytes of a body: does it start where we are? */
static int check_start(struct job *j, struct http_xfer *x)
{
	if (x->status == 206) {
		if (x->range_start == x->from)
			return 0;
		return vps_err_set(&j->err, VPS_ENET, "the server sent another part than asked");
	}
	return x->from ? job_restart(j, &j->err) : 0; /* 200: it does not know Range */
}

static int on_data(struct http_xfer *x, const void *p, size_t n)
{
	struct job *j = x->arg;
	int r = 0;

	if (!j->begun) {
		j->begun = true;
		r = check_start(j, x);
	}
	if (r == 0 && j->in)
		r = img_ingest_write(j->in, p, n, &j->err);
	else if (r == 0 && n > IMG_DOC_MAX - j->doc->text.len)
		r = vps_err_set(&j->err, VPS_EBADIMAGE, "larger than a manifest may be");
	else if (r == 0)
		sb_addn(&j->doc->text, p, n);
	if (r == 0 && job_tell(j))
		r = vps_err_set(&j->err, VPS_EINTERRUPTED, "stopped");
	return r;
}

/* ---- steps ---------------------------------------------------------------- */

static int job_start(struct job *j, struct vps_err *err)
{
	struct reg *g = j->g;
	const char *url = j->redirect ? j->redirect : j->url;

	http_drop(g->http, &j->x);
	j->x = (struct http_xfer){
		.url = url,
		.accept = j->accept,
		.from = j->in ? img_ingest_bytes(j->in) : 0,
		.write = on_data,
		.arg = j,
		/* Only where we were asked for it: never to another host. */
		.authorization = http_same_origin(url, j->url) ? g->auth : NULL,
	};
	if (j->doc)
		sb_reset(&j->doc->text);
	vps_err_clear(&j->err);
	j->begun = false;
	j->auth_age = g->auth_age;
	int r = http_start(g->http, &j->x, err);
	if (r == 0)
		j->state = RUNNING;
	return r;
}

static uint64_t backoff_ns(unsigned tries)
{
	uint64_t ms = tries < 7 ? BACKOFF_MS << (tries - 1) : BACKOFF_MAX;
	uint16_t dice = 0;

	if (ms > BACKOFF_MAX)
		ms = BACKOFF_MAX;
	/* A quarter by chance: a rack that lost its uplink does not come back in step. */
	if (getrandom(&dice, sizeof dice, 0) < 0)
		dice = 0;
	return (ms + ms / 4 * dice / 65536) * 1000000;
}

/* Try again later, from the original URL: where it redirects to may have expired. */
static int job_retry(struct job *j, const char *why, int64_t retry_after, struct vps_err *err)
{
	uint64_t wait;

	if (job_bytes(j) >= j->mark + PROGRESS_FREE) {
		j->mark = job_bytes(j);
		j->tries = 0;
	}
	if (++j->tries > j->g->retries)
		return vps_err_set(err, VPS_ENET, "%s; gave up after %u tries", why, j->tries);
	if (retry_after > PATIENCE_S)
		return vps_err_set(err, VPS_ENET, "%s; it asks to come back in %" PRId64 " s", why,
				   retry_after);
	wait = retry_after > 0 ? (uint64_t)retry_after * 1000000000 : backoff_ns(j->tries);
	j->not_before = sys_now_mono() + wait;
	j->state = WAITING;
	free(take_ptr(j->redirect));
	j->redirects = 0;
	return 0;
}

static int job_redirect(struct job *j, struct vps_err *err)
{
	struct http_xfer *x = &j->x;

	if (!x->location)
		return vps_err_set(err, VPS_ENET, "a redirect to nowhere (%ld)", x->status);
	if (++j->redirects > REDIRECTS)
		return vps_err_set(err, VPS_ENET, "more than %d redirects", REDIRECTS);
	int r = http_url_check(&j->g->conf, x->location, err);
	if (r < 0)
		return r;
	free(j->redirect);
	j->redirect = take_ptr(x->location);
	j->state = WAITING;
	j->not_before = 0;
	return 0;
}

static int job_login(struct job *j, struct vps_err *err)
{
	struct reg *g = j->g;
	char *value = NULL;

	if (!http_same_origin(j->x.url, j->url))
		return job_retry(j, "the storage behind the registry wants a login", -1, err);
	j->state = WAITING;
	j->not_before = 0;
	if (j->auth_age != g->auth_age) /* another transfer has logged in meanwhile */
		return 0;
	if (++j->logins > LOGINS || (g->auth && !j->x.bearer))
		return vps_err_set(err, VPS_EAUTH, "the registry refuses the login%s%s",
				   g->login.user ? " of user " : "; give --user or --auth-file",
				   g->login.user ? g->login.user : "");
	int r = reg_answer(g->http, &g->conf, &g->login, j->x.bearer, j->x.basic, &value, err);
	if (r < 0)
		return r;
	if (r == 1)
		return job_retry(j, "the token server does not answer", -1, err);
	if (g->auth)
		explicit_bzero(g->auth, strlen(g->auth));
	free(g->auth);
	g->auth = value;
	g->auth_age++;
	return 0;
}

/* All bytes that the server wanted to send are here; are they what we wanted? */
static int job_complete(struct job *j, struct vps_err *err)
{
	struct vps_err why = {0};

	if (!j->in) {
		int r = sb_ok(&j->doc->text);
		j->state = DONE;
		return r < 0 ? vps_err_sys(err, r, "document") : 0;
	}
	if (job_bytes(j) < j->total)
		return job_retry(j, "the server ended too early", -1, err);
	int r = img_ingest_end(j->in, NULL, &why);
	/* Put together from several answers, it gets one chance in one piece. */
	if (r < 0 && j->x.from && !j->fresh) {
		j->fresh = true;
		r = job_restart(j, err);
		return r < 0 ? r : job_retry(j, why.msg, -1, err);
	}
	if (r < 0)
		return vps_err_set(err, -r, "%s", why.msg);
	j->state = DONE;
	job_tell(j);
	return 0;
}

/* What the registry says in words: {"errors":[{"message":…}]}, escaped and short. */
static int refused(struct job *j, int code, const char *words, struct vps_err *err)
{
	autofree char *said = str_escape(j->x.body);

	return vps_err_set(err, code, "%s (%ld)%s%.160s", words, j->x.status,
			   said && *said ? ": " : "", said ? said : "");
}

static int job_status(struct job *j, struct vps_err *err)
{
	char why[64];
	int r;

	switch (j->x.status) {
	case 200:
	case 206:
		return job_complete(j, err);
	case 301: case 302: case 303: case 307: case 308:
		return job_redirect(j, err);
	case 401:
		return job_login(j, err);
	case 403:
		return refused(j, VPS_EAUTH, "the registry says no", err);
	case 404:
		return refused(j, VPS_ENOIMAGE, "not in the registry", err);
	case 416:
		r = job_restart(j, err);
		return r < 0 ? r : job_retry(j, "the server has less than it sent before", -1, err);
	case 408: case 429: case 500: case 502: case 503: case 504:
		snprintf(why, sizeof why, "the server answered %ld", j->x.status);
		return job_retry(j, why, j->x.retry_after, err);
	default:
		return refused(j, VPS_ENET, "the server's answer makes no sense", err);
	}
}

static int job_step(struct job *j, struct vps_err *err)
{
	switch (j->x.result) {
	case HTTP_RESPONSE:
		return job_status(j, err);
	case HTTP_TRANSIENT:
		return job_retry(j, j->x.why, -1, err);
	case HTTP_SINK:
		return vps_err_set(err, j->err.code ? j->err.code : EIO, "%s", j->err.msg);
	case HTTP_FATAL:
	default:
		return vps_err_set(err, VPS_ENET, "%s", j->x.why);
	}
}

/* ---- the loop ------------------------------------------------------------- */

struct tally {
	unsigned running, waiting;
	uint64_t next; /* when the first waiting one wants to go */
};

static int start_due(struct reg *g, struct job *jobs, size_t n, struct tally *t,
		     struct vps_err *err)
{
	const uint64_t now = sys_now_mono();
	unsigned running = 0;

	*t = (struct tally){.next = UINT64_MAX};
	for (size_t i = 0; i < n; i++)
		running += jobs[i].state == RUNNING;
	for (size_t i = 0; i < n; i++) {
		struct job *j = &jobs[i];

		if (j->state != WAITING)
			continue;
		if (j->not_before <= now && running < g->parallel) {
			int r = job_start(j, err);
			if (r < 0)
				return vps_err_wrap(err, r, "%s", j->what);
			running++;
			continue;
		}
		t->waiting++;
		if (j->not_before < t->next)
			t->next = j->not_before;
	}
	t->running = running;
	return 0;
}

static int tick_ms(const struct tally *t)
{
	uint64_t now = sys_now_mono();

	if (!t->waiting || t->next <= now || t->next - now > TICK_MS * 1000000ull)
		return TICK_MS;
	return (int)((t->next - now) / 1000000) + 1;
}

static int run(struct reg *g, struct job *jobs, size_t n, struct vps_err *err)
{
	struct tally t;

	for (;;) {
		struct http_xfer *x;
		int r = start_due(g, jobs, n, &t, err);

		if (r < 0)
			return r;
		if (!t.running && !t.waiting)
			return 0;
		r = http_wait(g->http, tick_ms(&t), &x);
		if (r < 0)
			return vps_err_sys(err, r, "wait for the registry");
		if (x) {
			struct job *j = x->arg;

			r = job_step(j, err);
			if (r < 0)
				return vps_err_wrap(err, r, "%s", j->what);
		}
		/* Also while nothing moves: this is how an interrupt gets through. */
		for (size_t i = 0; i < n; i++)
			if (jobs[i].state != DONE && job_tell(&jobs[i]))
				return vps_err_set(err, VPS_EINTERRUPTED, "stopped");
	}
}

/* ---- public --------------------------------------------------------------- */

int reg_open(const struct img_ref *ref, const struct img_pull_opts *p,
	     const struct progress *progress, struct reg **ret, struct vps_err *err)
{
	auto_done(reg_closep) struct reg *g = calloc(1, sizeof *g);
	autofree char *base = str_fmt("%s://%s/", p->plain_http ? "http" : "https", ref->host);

	if (!g || !base)
		return vps_err_sys(err, -ENOMEM, "registry");
	*g = (struct reg){
		.ref = ref, .progress = progress,
		.parallel = p->parallel ? p->parallel : 3,
		.retries = p->retries ? p->retries : 5,
		.conf = {.ca_file = p->ca_file, .plain = p->plain_http,
			 .plain_everywhere = p->force_plain_http},
		.login = {.host = ref->host, .path = ref->path},
	};
	int r = http_url_check(&g->conf, base, err);
	if (r == 0)
		r = reg_login_find(p, ref->host, &g->login, err);
	if (r == 0)
		r = http_open(&g->conf, &g->http, err);
	if (r == 0)
		*ret = take_ptr(g);
	return r;
}

struct reg *reg_close(struct reg *g)
{
	if (!g)
		return NULL;
	http_close(g->http);
	reg_login_done(&g->login);
	if (g->auth)
		explicit_bzero(g->auth, strlen(g->auth));
	free(g->auth);
	free(g);
	return NULL;
}

void reg_doc_done(struct reg_doc *d)
{
	sb_done(&d->text);
}

static char *make_url(const struct reg *g, const char *kind, const char *name)
{
	return str_fmt("%s://%s/v2/%s/%s/%s", g->conf.plain ? "http" : "https", g->ref->host,
		       g->ref->path, kind, name);
}

int reg_manifest(struct reg *g, const char *tag_or_digest, struct reg_doc *ret,
		 struct vps_err *err)
{
	auto_done(job_done) struct job j = {
		.g = g, .doc = ret, .state = WAITING,
		.url = make_url(g, "manifests", tag_or_digest),
		.accept = IMG_MT_INDEX ", " IMG_MT_MANIFEST ", " IMG_MT_D_LIST ", " IMG_MT_D_MANIFEST,
	};
	if (!j.url)
		return vps_err_sys(err, -ENOMEM, "manifest");
	snprintf(j.what, sizeof j.what, "manifest %.24s", tag_or_digest);
	int r = run(g, &j, 1, err);
	if (r < 0)
		return r;
	digest_of(ret->text.s ? ret->text.s : "", ret->text.len, ret->digest);
	/* The header's word counts against the server, never for it. */
	if (digest_valid(tag_or_digest) && !str_eq(tag_or_digest, ret->digest))
		return vps_err_set(err, VPS_EDIGEST, "%s: content is %s", j.what, ret->digest);
	if (digest_valid(j.x.digest) && !str_eq(j.x.digest, ret->digest))
		return vps_err_set(err, VPS_EDIGEST, "%s: the server calls it %.80s, it is %s",
				   j.what, j.x.digest, ret->digest);
	memcpy(ret->media_type, j.x.content_type, sizeof ret->media_type);
	return 0;
}

int reg_blobs(struct reg *g, struct reg_blob *blobs, size_t n, struct vps_err *err)
{
	struct job *jobs = calloc(n ? n : 1, sizeof *jobs);
	int r = jobs ? 0 : vps_err_sys(err, -ENOMEM, "pull");

	for (size_t i = 0; i < n && r == 0; i++) {
		jobs[i] = (struct job){
			.g = g, .in = blobs[i].in, .key = blobs[i].key, .state = WAITING,
			.total = blobs[i].desc->size,
			.url = make_url(g, "blobs", blobs[i].desc->digest),
		};
		snprintf(jobs[i].what, sizeof jobs[i].what, "pull %.19s", blobs[i].desc->digest);
		if (!jobs[i].url)
			r = vps_err_sys(err, -ENOMEM, "pull");
	}
	if (r == 0)
		r = run(g, jobs, n, err);
	for (size_t i = 0; jobs && i < n; i++)
		job_done(&jobs[i]);
	free(jobs);
	return r;
}
