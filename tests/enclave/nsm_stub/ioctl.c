/* Stands in for ioctl(2) on /dev/nsm: each request must be the next one of exchanges.h, and gets its answer, as the
   driver gives it (linux drivers/misc/nsm.c). Every third call is interrupted first, after it spoiled its argument. */

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct exchange {
    const uint8_t *request;
    size_t request_length;
    const uint8_t *answer;
    size_t answer_length;
};

#include "exchanges.h" /* FAILURE: an errno or 0; exchanges[] */

struct nsm_raw {
    uint64_t request_address, request_length, answer_address, answer_length;
};

static size_t position, calls;

static int fail(int code)
{
    errno = code;
    return -1;
}

int fake_ioctl(int fd, unsigned long number, ...)
{
    va_list arguments;
    va_start(arguments, number);
    struct nsm_raw *raw = va_arg(arguments, struct nsm_raw *);
    va_end(arguments);

    if (fd < 0)
        return fail(EBADF);
    if (number != 0xC0200A00)
        return fail(EINVAL);
    if (calls++ % 3 == 0) {
        memset(raw, 0, sizeof *raw);
        return fail(EINTR);
    }
    if (FAILURE != 0)
        return fail(FAILURE);
    if (raw->request_length > 0x1000)
        return fail(EMSGSIZE);
    if (position == sizeof exchanges / sizeof *exchanges)
        return fail(ENOMSG);
    const struct exchange *next = &exchanges[position++];
    if (raw->request_length != next->request_length ||
        memcmp((const void *)(uintptr_t)raw->request_address, next->request, next->request_length) != 0)
        return fail(EBADMSG);
    if (raw->answer_length > next->answer_length)
        raw->answer_length = next->answer_length; /* a longer answer is cut off in silence */
    memcpy((void *)(uintptr_t)raw->answer_address, next->answer, raw->answer_length);
    return 0;
}
