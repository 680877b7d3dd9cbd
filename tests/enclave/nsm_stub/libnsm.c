/* A libnsm.so that replays a conversation: each call must be the next one of steps.h, and gets its recorded answer.
   The interface is that of AWS's library (nsm-api nsm-lib/src/lib.rs). A call that is not the next one is answered with InternalError, and stderr says why. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef enum { SHA256, SHA384, SHA512 } Digest;
typedef int ErrorCode; /* an enum there; here also values that it does not have */

typedef struct {
    uint16_t version_major, version_minor, version_patch;
    uint8_t module_id[100];
    uint32_t module_id_len;
    uint16_t max_pcrs;
    uint16_t locked_pcrs[64];
    uint32_t locked_pcrs_len;
    Digest digest;
} NsmDescription;

_Static_assert(sizeof(NsmDescription) == 252, "the size of the Rust struct");
_Static_assert(offsetof(NsmDescription, module_id_len) == 108, "its layout");
_Static_assert(offsetof(NsmDescription, locked_pcrs_len) == 244, "its layout");

struct octets {
    const uint8_t *start; /* NULL: absent */
    size_t length;
};

struct step {
    const char *function;
    uint32_t number;          /* index, range, or how many random bytes */
    struct octets given[3];   /* data, or user_data, nonce and public_key */
    ErrorCode code;
    uint64_t flags;           /* lock; or the registers locked, one bit each */
    struct octets answer;     /* value, document, random bytes or module_id */
    uint32_t announced;       /* the answer's length as told, which may be a lie */
};

#include "steps.h" /* DESCRIPTOR, DIGEST, steps[] */

static size_t position, exits;

size_t nsm_stub_exits(void) { return exits; }

size_t nsm_stub_steps_left(void) { return sizeof steps / sizeof *steps - position; }

enum { BUFFER_TOO_SMALL = 6, INTERNAL_ERROR = 8 };

static const struct step refusal = {.function = "", .code = INTERNAL_ERROR};

static const struct step *refuse(const char *function, const char *reason)
{
    fprintf(stderr, "libnsm stub: step %zu, %s: %s\n", position, function, reason);
    return &refusal;
}

static const struct step *next(int32_t fd, const char *function, uint32_t number)
{
    if (nsm_stub_steps_left() == 0)
        return refuse(function, "the conversation is over");
    const struct step *step = &steps[position];
    if (fd != DESCRIPTOR)
        return refuse(function, "not the descriptor of nsm_lib_init");
    if (strcmp(function, step->function) != 0)
        return refuse(function, step->function);
    if (number != step->number)
        return refuse(function, "another index, range or size");
    position++;
    return step;
}

static const struct step *require(const struct step *step, int place, const uint8_t *start, uint32_t length)
{
    const struct octets *expected = &step->given[place];
    if (step == &refusal)
        return step;
    if ((start == NULL) != (expected->start == NULL))
        return refuse(step->function, "NULL and not NULL");
    if (length != expected->length || (length > 0 && memcmp(start, expected->start, length) != 0))
        return refuse(step->function, "other bytes");
    return step;
}

static ErrorCode give(const struct step *step, uint8_t *output, size_t capacity)
{
    if (step->code != 0)
        return step->code;
    if (capacity < step->answer.length)
        return BUFFER_TOO_SMALL;
    memcpy(output, step->answer.start, step->answer.length);
    return 0;
}

int32_t nsm_lib_init(void) { return DESCRIPTOR; }

void nsm_lib_exit(int32_t fd)
{
    if (fd == DESCRIPTOR)
        exits++;
}

ErrorCode nsm_get_description(int32_t fd, NsmDescription *description)
{
    const struct step *step = next(fd, "nsm_get_description", 0);
    description->version_major = 1;
    description->version_minor = description->version_patch = 0;
    description->max_pcrs = 32;
    description->digest = DIGEST;
    description->module_id_len = step->announced;
    description->locked_pcrs_len = 0;
    for (uint16_t index = 0; index < 64; index++)
        if (step->flags >> index & 1)
            description->locked_pcrs[description->locked_pcrs_len++] = index;
#ifdef LOCKED_PCRS_LEN
    description->locked_pcrs_len = LOCKED_PCRS_LEN;
#endif
    return give(step, description->module_id, sizeof description->module_id);
}

ErrorCode nsm_describe_pcr(int32_t fd, uint16_t index, bool *lock, uint8_t *data, uint32_t *data_len)
{
    const struct step *step = next(fd, "nsm_describe_pcr", index);
    ErrorCode code = give(step, data, *data_len);
    *lock = step->flags;
    *data_len = step->announced;
    return code;
}

ErrorCode nsm_extend_pcr(int32_t fd, uint16_t index, const uint8_t *data, uint32_t data_len, uint8_t *pcr_data,
                         uint32_t *pcr_data_len)
{
    const struct step *step = next(fd, "nsm_extend_pcr", index);
    step = require(step, 0, data, data_len);
    ErrorCode code = give(step, pcr_data, *pcr_data_len);
    *pcr_data_len = step->announced;
    return code;
}

ErrorCode nsm_lock_pcr(int32_t fd, uint16_t index) { return next(fd, "nsm_lock_pcr", index)->code; }

ErrorCode nsm_lock_pcrs(int32_t fd, uint16_t range) { return next(fd, "nsm_lock_pcrs", range)->code; }

ErrorCode nsm_get_attestation_doc(int32_t fd, const uint8_t *user_data, uint32_t user_data_len, const uint8_t *nonce,
                                  uint32_t nonce_len, const uint8_t *pub_key, uint32_t pub_key_len, uint8_t *doc,
                                  uint32_t *doc_len)
{
    const struct step *step = next(fd, "nsm_get_attestation_doc", 0);
    step = require(step, 0, user_data, user_data_len);
    step = require(step, 1, nonce, nonce_len);
    step = require(step, 2, pub_key, pub_key_len);
    if (*doc_len != 16384)
        step = refuse("nsm_get_attestation_doc", "not the SDK's buffer of 16 KiB");
    ErrorCode code = give(step, doc, *doc_len);
    *doc_len = step->announced;
    return code;
}

#ifndef WITHOUT_RANDOM
ErrorCode nsm_get_random(int32_t fd, uint8_t *buf, uintptr_t *buf_len)
{
    const struct step *step = next(fd, "nsm_get_random", *buf_len);
    ErrorCode code = give(step, buf, *buf_len);
    *buf_len = step->announced;
    return code;
}
#endif
