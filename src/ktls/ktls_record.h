/*
 * Parser of control records: what arrives after the handshake with a content type other than application data.
 * Pure: bytes in, events out; no sockets, no keys. Fuzzed by tests/fuzz/fuzz_ktls_record.c.
 */
#ifndef KTLS_RECORD_H
#define KTLS_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Content types, RFC 8446 B.1. */
enum { KTLS_CT_CHANGE_CIPHER_SPEC = 20, KTLS_CT_ALERT = 21, KTLS_CT_HANDSHAKE = 22, KTLS_CT_DATA = 23 };
/* Handshake types, RFC 8446 B.3. */
enum { KTLS_HS_HELLO_REQUEST = 0, KTLS_HS_CLIENT_HELLO = 1, KTLS_HS_NEW_SESSION_TICKET = 4, KTLS_HS_KEY_UPDATE = 24 };

/* Alert descriptions the library itself sends or looks at (RFC 8446 6). */
enum {
    KTLS_ALERT_CLOSE_NOTIFY = 0,
    KTLS_ALERT_UNEXPECTED_MESSAGE = 10,
    KTLS_ALERT_BAD_RECORD_MAC = 20,
    KTLS_ALERT_RECORD_OVERFLOW = 22,
    KTLS_ALERT_ILLEGAL_PARAMETER = 47,
    KTLS_ALERT_DECODE_ERROR = 50,
    KTLS_ALERT_PROTOCOL_VERSION = 70,
    KTLS_ALERT_INTERNAL_ERROR = 80,
    KTLS_ALERT_USER_CANCELED = 90,
    KTLS_ALERT_NO_RENEGOTIATION = 100
};

/* Longest handshake message taken in, header included. Servers that put a client's certificate chain into the ticket need some
 * KB. */
#define KTLS_HS_MESSAGE_MAX 32768

enum ktls_event_kind {
    KTLS_EV_CLOSE_NOTIFY,
    KTLS_EV_FATAL_ALERT,   /* alert */
    KTLS_EV_WARNING_ALERT, /* alert; to be ignored */
    KTLS_EV_KEY_UPDATE,    /* update_requested */
    KTLS_EV_TICKET,        /* body, body_len: a NewSessionTicket without its header */
    KTLS_EV_VIOLATION      /* alert is the one to send, why says what was wrong */
};

struct ktls_event {
    enum ktls_event_kind kind;
    int alert;
    bool update_requested;
    const uint8_t *body; /* valid until the next call on the reader */
    size_t body_len;
    const char *why; /* static */
};

/* A handshake message may be spread over records, and a record may hold several. Zero-initialise, set is_client and is_tls13. */
struct ktls_record_reader {
    bool is_client, is_tls13;
    bool part_done;      /* the message in part was given out: free it at the next call */
    uint8_t type;        /* of the present record */
    const uint8_t *data; /* its unread rest, borrowed */
    size_t len;
    uint8_t head[4]; /* first bytes of a message that began in an earlier record */
    uint8_t *part;   /* that message, once its length is known */
    size_t have;     /* bytes of it so far */
};

/* Gives the reader one whole record, whose bytes must stay until ktls_record_next() returned 0. The earlier record must be used
 * up. */
void ktls_record_begin(struct ktls_record_reader *r, uint8_t type, const uint8_t *data, size_t len);
/* 1: *ret is the next event; 0: the record is used up; -ENOMEM. After KTLS_EV_VIOLATION or KTLS_EV_FATAL_ALERT the connection is
 * over. */
int ktls_record_next(struct ktls_record_reader *r, struct ktls_event *ret);
/* A handshake message has come in part: data before the rest of it is a violation (RFC 8446 5.1), unexpected_message. */
bool ktls_record_is_half(const struct ktls_record_reader *r);
/* Frees what a half-read message holds. */
void ktls_record_done(struct ktls_record_reader *r);

#endif
