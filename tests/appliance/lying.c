/* What a machine says whose clock no server keeps and whose disk is slow: for LD_PRELOAD, in front of the C library's own. */
#include <stdlib.h>
#include <time.h>

int adjtimex(void *timex) { return getenv("LYING_CLOCK") ? 5 : 0; }

int fsync(int descriptor)
{
    const char *text = getenv("LYING_FSYNC_MS");
    struct timespec wait = {0, text ? atol(text) * 1000000L : 0};
    nanosleep(&wait, NULL);
    return 0;
}
