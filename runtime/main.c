/* tbc-run: trains, evaluates, verifies and samples a compiled model, or tokenizes a text. Exit codes: 0 done,
 * 1 an error in the input or at run time, 2 wrong usage, 128 + signal when interrupted (after saving). */
#include "error.h"
#include "evaluate.h"
#include "export/export.h"
#include "generate.h"
#include "interrupt.h"
#include "device/parallel.h"
#include "train.h"
#include "text/transcode.h"
#include "verify.h"
#include <signal.h>
#include <stdlib.h>

static bool evaluate_only(Session *s) {
    RunLog log;
    Evaluation e;
    Progress progress = progress_start(s->options->quiet);
    if (!runlog_open(&log, s->options->log, s->options->resume != NULL)) return false;
    bool ok = evaluate_and_report(s, 0, &progress, &log, &e);
    return runlog_close(&log) && ok;
}

static bool run(Session *s) {
    const Options *o = s->options;
    if (o->export && !export_check(s)) return false;
    if (o->train && !train(s)) return false;
    if (interrupt_pending()) return true;
    if (o->eval_only && !evaluate_only(s)) return false;
    if (o->verify && !verify_codes(s)) return false;
    if (o->export && !export_model(s)) return false;
    if (o->generate && !generate(s)) return false;
    return true;
}

static bool run_module(const Options *o) {
    Session session;
    bool ok = session_open(&session, o) && run(&session) && device_ok(&session.device);
    if (ok && o->profile) profile_print(&session.profile);
    session_close(&session);
    return ok;
}

int main(int argc, char **argv) {
    Options options;
    signal(SIGXFSZ, SIG_IGN); /* a file beyond ulimit -f is a failed write, which has its message */
    parallel_setup(argv);
    switch (options_parse(&options, argc, argv)) {
    case OPTIONS_DONE:
        return 0;
    case OPTIONS_WRONG:
        return 2;
    case OPTIONS_RUN:
        break;
    }
    bool ok = (options.encode || options.decode ? transcode : run_module)(&options);
    if ((fflush(stdout) || ferror(stdout)) && ok) ok = rt_error_errno(NULL, "cannot write to stdout");
    if (!ok) return 1;
    return interrupt_pending() ? 128 + interrupt_pending() : 0;
}
