#include <livepatch/author.h>
LIVEPATCH_LEAVE_OUT(proc_cmdline_init, "ran at boot; the file it made is as it should be");

