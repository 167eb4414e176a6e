/* Downloads with libcurl; SHA-256 by libcrypto, which libcurl's OpenSSL flavour brings along. */
#include "download.h"
#include "../device/profile.h"
#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

const Patience download_patience = {.attempts = 4, .pause = 1, .stall = 15};

enum { CONNECT_SECONDS = 15, STALL_BYTES_PER_SECOND = 16 };

typedef enum Outcome { COMPLETE, BROKEN, HOPELESS } Outcome;

typedef struct Transfer {
    const Remote *remote;
    Progress *progress;
    CURL *curl;
    int fd;       /* of the .part file */
    int64_t have; /* bytes in it */
    int64_t from; /* of the range that this attempt asks for */
    int64_t most; /* that it ever held */
    int64_t begun_with;
    double began;
    bool accepted; /* this attempt's answer is the file, or the rest of it */
    bool reached;  /* some attempt got a connection */
    bool wrong;    /* the file arrived, and is another one */
    char *why;     /* the last attempt's failure */
} Transfer;

static void set_why(Transfer *t, char *why) {
    free(t->why);
    t->why = why;
}

/* ---- the answer */

static long answer_code(const Transfer *t) {
    long code = 0;
    curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &code);
    return code;
}

/* Where the range begins that the server says it sends: `Content-Range: bytes FROM-TO/ALL` (RFC 9110, 14.4).
 */
static int64_t range_start(const Transfer *t) {
    struct curl_header *header;
    if (curl_easy_header(t->curl, "Content-Range", 0, CURLH_HEADER, -1, &header) != CURLHE_OK) return -1;
    long long from;
    return sscanf(header->value, "bytes %lld-", &from) == 1 ? from : -1;
}

/* Is the body that begins to arrive what was asked for? A whole file takes the place of what is there. */
static bool accept_answer(Transfer *t) {
    long code = answer_code(t);
    if (code != 200 && code != 206) {
        set_why(t, rt_printf("HTTP status %ld", code));
        return false;
    }
    if (code == 206 && range_start(t) != t->from) {
        set_why(t, rt_printf("the server sent another range than asked for"));
        return false;
    }
    int64_t start = code == 206 ? t->from : 0;
    curl_off_t length = -1;
    curl_easy_getinfo(t->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    if (length >= 0 && start + length != t->remote->bytes) {
        set_why(t, rt_printf("the server has a file of %lld bytes (expected %lld)",
                             (long long)(start + length), (long long)t->remote->bytes));
        return false;
    }
    t->have = start;
    return ftruncate(t->fd, start) == 0;
}

static size_t receive(char *bytes, size_t size, size_t n, void *user) {
    Transfer *t = user;
    (void)size; /* is 1 */
    if (!t->accepted && !(t->accepted = accept_answer(t))) return 0;
    if ((int64_t)n > t->remote->bytes - t->have) {
        set_why(t,
                rt_printf("the server sends more than the expected %lld bytes", (long long)t->remote->bytes));
        return 0;
    }
    for (size_t done = 0; done < n;) {
        ssize_t wrote = pwrite(t->fd, bytes + done, n - done, (off_t)t->have);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote <= 0) {
            set_why(t, rt_printf("cannot write: %s", strerror(errno)));
            return 0;
        }
        done += (size_t)wrote;
        t->have += wrote;
    }
    return n;
}

static int show(void *user, curl_off_t total, curl_off_t now, curl_off_t up_total, curl_off_t up_now) {
    (void)total, (void)now, (void)up_total, (void)up_now;
    Transfer *t = user;
    if (!progress_due(t->progress)) return 0;
    double seconds = seconds_now() - t->began, rate = (double)(t->have - t->begun_with) / seconds;
    char left[32] = "?";
    if (rate > 0) duration_text((double)(t->remote->bytes - t->have) / rate, left);
    progress_show(t->progress, "downloading %s  %.1f/%.1f MB  %.0f kB/s  %s left", t->remote->url,
                  (double)t->have / 1e6, (double)t->remote->bytes / 1e6, rate > 0 ? rate / 1e3 : 0, left);
    return 0;
}

/* ---- one attempt */

/* Errors before any answer that stay what they are. */
static bool no_use_in_trying(const Transfer *t, CURLcode result) {
    long proxy = 0;
    curl_easy_getinfo(t->curl, CURLINFO_HTTP_CONNECTCODE, &proxy);
    return !t->reached || proxy >= 400 || result == CURLE_PEER_FAILED_VERIFICATION ||
           result == CURLE_TOO_MANY_REDIRECTS || result == CURLE_UNSUPPORTED_PROTOCOL;
}

static Outcome judge(Transfer *t, CURLcode result, const char *detail) {
    long code = answer_code(t);
    curl_off_t connected = 0;
    curl_easy_getinfo(t->curl, CURLINFO_CONNECT_TIME_T, &connected);
    t->reached |= connected > 0;
    if (result == CURLE_WRITE_ERROR && code < 400) return HOPELESS; /* receive() said why */
    if (code >= 400) {
        set_why(t, rt_printf("HTTP status %ld", code));
        if (code == 416 && t->from > 0) { /* what is there is no part of this file */
            t->have = 0;
            return ftruncate(t->fd, 0) == 0 ? BROKEN : HOPELESS;
        }
        return code >= 500 || code == 408 || code == 429 ? BROKEN : HOPELESS;
    }
    if (result == CURLE_OK && t->have == t->remote->bytes) return COMPLETE;
    set_why(t, result == CURLE_OK ? rt_printf("the transfer ended at byte %lld of %lld", (long long)t->have,
                                              (long long)t->remote->bytes)
                                  : rt_printf("%s", *detail ? detail : curl_easy_strerror(result)));
    return no_use_in_trying(t, result) ? HOPELESS : BROKEN;
}

static Outcome attempt(Transfer *t, const Patience *patience) {
    char detail[CURL_ERROR_SIZE] = "", range[32];
    t->from = t->have;
    t->accepted = false;
    CURL *c = t->curl;
    curl_easy_reset(c);
    curl_easy_setopt(c, CURLOPT_URL, t->remote->url);
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(c, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(c, CURLOPT_MAXREDIRS, 10L);
    curl_easy_setopt(c, CURLOPT_USERAGENT, "tbc/" TBC_VERSION);
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_SECONDS);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, (long)STALL_BYTES_PER_SECOND);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, patience->stall);
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, detail);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, receive);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, show);
    curl_easy_setopt(c, CURLOPT_XFERINFODATA, t);
    snprintf(range, sizeof range, "%lld-", (long long)t->from);
    if (t->from > 0) curl_easy_setopt(c, CURLOPT_RANGE, range);
    CURLcode result = curl_easy_perform(c);
    return judge(t, result, detail);
}

static bool transfer(Transfer *t, const Patience *patience) {
    double pause = patience->pause;
    for (int tries = 1; t->have < t->remote->bytes; tries++) {
        Outcome outcome = attempt(t, patience);
        if (outcome == HOPELESS) return false;
        if (outcome == COMPLETE) break;
        if (t->have > t->most) t->most = t->have, tries = 0, pause = patience->pause;
        if (tries == patience->attempts) return false;
        progress_show(t->progress, "%s: %s; trying again in %.0f s", t->remote->url, t->why, pause);
        usleep((useconds_t)(pause * 1e6));
        pause *= 2;
    }
    return true;
}

/* ---- the whole */

static bool sha256_of(int fd, char hex[65]) {
    unsigned char block[1 << 16], digest[EVP_MAX_MD_SIZE];
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    bool ok = hash && EVP_DigestInit_ex(hash, EVP_sha256(), NULL);
    ssize_t n = 1;
    for (off_t at = 0; ok && (n = pread(fd, block, sizeof block, at)) > 0; at += n)
        ok = EVP_DigestUpdate(hash, block, (size_t)n);
    ok = ok && n == 0 && EVP_DigestFinal_ex(hash, digest, NULL);
    EVP_MD_CTX_free(hash);
    for (int i = 0; ok && i < 32; i++) snprintf(hex + (size_t)i * 2, 3, "%02x", digest[i]);
    return ok;
}

static bool check_content(Transfer *t) {
    char hex[65];
    if (!sha256_of(t->fd, hex)) {
        set_why(t, rt_printf("cannot read back what was written: %s", strerror(errno)));
        return false;
    }
    t->wrong = strcmp(hex, t->remote->sha256) != 0;
    if (!t->wrong) return true;
    t->have = t->most = 0;
    set_why(t, rt_printf("not the expected file: its SHA-256 is %s instead of %s", hex, t->remote->sha256));
    return false;
}

/* Where the beginning is from an earlier run and the whole is wrong, the beginning may be to blame: once
 * more. */
static bool fetch(Transfer *t, const Patience *patience) {
    t->begun_with = t->most = t->have;
    if (transfer(t, patience) && check_content(t)) return true;
    if (!t->wrong || t->begun_with == 0) return false;
    t->begun_with = 0;
    return transfer(t, patience) && check_content(t);
}

/* Opens the .part file, which belongs to one process at a time. */
static bool open_part(Transfer *t, const char *part) {
    struct stat info;
    t->fd = open(part, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (t->fd < 0 || fstat(t->fd, &info) != 0) {
        set_why(t, rt_printf("cannot write %s: %s", part, strerror(errno)));
        return false;
    }
    if (flock(t->fd, LOCK_EX | LOCK_NB) != 0) {
        set_why(t, rt_printf("another process is downloading to %s", part));
        return false;
    }
    t->have = info.st_size <= t->remote->bytes ? info.st_size : 0;
    return true;
}

bool download(const Remote *remote, const char *path, const Patience *patience, Progress *progress,
              char **why) {
    Transfer t = {.remote = remote, .progress = progress, .fd = -1, .began = seconds_now()};
    char *part = rt_printf("%s.part", path);
    bool ok = open_part(&t, part);
    if (ok) {
        curl_global_init(CURL_GLOBAL_DEFAULT);
        t.curl = curl_easy_init();
        ok = t.curl && fetch(&t, patience);
        curl_easy_cleanup(t.curl);
        curl_global_cleanup();
        progress_clear(progress);
    }
    if (ok && rename(part, path) != 0) {
        set_why(&t, rt_printf("cannot rename %s: %s", part, strerror(errno)));
        ok = false;
    }
    if (!ok && t.curl && t.have == 0) unlink(part);
    if (t.fd >= 0) close(t.fd);
    free(part);
    *why = ok ? NULL : t.why ? t.why : rt_printf("libcurl cannot be started");
    if (ok) free(t.why);
    return ok;
}
