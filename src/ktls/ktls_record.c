/*
 * Control records: alerts (RFC 8446 6), KeyUpdate (4.6.3), NewSessionTicket (4.6.1), and everything that must not come.
 *
 * Place in the flow: the kernel decrypts, ktls_control.c fetches a record that is not data and gives its bytes to this parser,
 * which gives back events. It belongs to one connection and is used by that connection's thread.
 *
 * Rules kept here, with their source:
 *   - an alert record is exactly one alert; records of length zero are refused                        RFC 8446 5.1
 *   - in TLS 1.3 every alert but close_notify and user_canceled ends the connection, whatever its level    RFC 8446 6
 *   - KeyUpdate is the last message of its record, because the key changes behind it                  RFC 8446 5.1
 *   - a server takes no NewSessionTicket; nobody takes a new handshake                                RFC 8446 4.6, RFC 5746
 *   - a NewSessionTicket has its syntax, whether or not anybody wants it                              RFC 8446 4.6.1, 6.2
 *   - between the records of one handshake message comes nothing else                                 RFC 8446 5.1
 * The last one is the caller's too: data does not come by here (ktls_record_is_half).
 * A message that lies whole in one record, the usual case, is not copied.
 */
#include "ktls_record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int violation(struct ktls_event *ret, int alert, const char *why) {
    *ret = (struct ktls_event){ .kind = KTLS_EV_VIOLATION, .alert = alert, .why = why };
    return 1;
}

static size_t body_len(const uint8_t *head) {
    return (size_t)head[1] << 16 | (size_t)head[2] << 8 | head[3];
}

/* NULL: a message with this header may come; else why not, with *ret_alert. */
static const char *refuse_header(const struct ktls_record_reader *r, const uint8_t *head, int *ret_alert) {
    *ret_alert = KTLS_ALERT_UNEXPECTED_MESSAGE;
    if (!r->is_tls13) {
        if (head[0] == (r->is_client ? KTLS_HS_HELLO_REQUEST : KTLS_HS_CLIENT_HELLO)) {
            *ret_alert = KTLS_ALERT_NO_RENEGOTIATION;
            return "the peer asked for a renegotiation";
        }
        return "a handshake message after the handshake";
    }
    if (head[0] == KTLS_HS_KEY_UPDATE) {
        *ret_alert = KTLS_ALERT_DECODE_ERROR;
        return body_len(head) == 1 ? NULL : "a KeyUpdate of wrong length";
    }
    if (head[0] == KTLS_HS_NEW_SESSION_TICKET && r->is_client) {
        *ret_alert = KTLS_ALERT_ILLEGAL_PARAMETER;
        return body_len(head) + 4 <= KTLS_HS_MESSAGE_MAX ? NULL : "a NewSessionTicket that is too long";
    }
    return "a handshake message other than KeyUpdate or NewSessionTicket";
}

/* Skips a vector with a length of len_bytes, of at least min bytes. False: it is not there. */
static bool skip_vector(const uint8_t **p, size_t *left, size_t len_bytes, size_t min) {
    size_t len = 0;
    if (*left < len_bytes) return false;
    for (size_t i = 0; i < len_bytes; i++) len = len << 8 | (*p)[i];
    if (len < min || *left - len_bytes < len) return false;
    *p += len_bytes + len;
    *left -= len_bytes + len;
    return true;
}

/* Lifetime and age_add (4 bytes each), nonce, ticket, extensions. */
static bool is_ticket(const uint8_t *p, size_t len) {
    if (len < 8) return false;
    p += 8;
    len -= 8;
    return skip_vector(&p, &len, 1, 0) && skip_vector(&p, &len, 2, 1) && skip_vector(&p, &len, 2, 0) && len == 0;
}

/* msg: one whole message whose header was accepted. r->data is what follows it in the record. */
static int message_event(const struct ktls_record_reader *r, const uint8_t *msg, struct ktls_event *ret) {
    if (msg[0] == KTLS_HS_NEW_SESSION_TICKET) {
        if (!is_ticket(msg + 4, body_len(msg))) return violation(ret, KTLS_ALERT_DECODE_ERROR, "a malformed NewSessionTicket");
        *ret = (struct ktls_event){ .kind = KTLS_EV_TICKET, .body = msg + 4, .body_len = body_len(msg) };
        return 1;
    }
    if (msg[4] > 1) return violation(ret, KTLS_ALERT_ILLEGAL_PARAMETER, "a KeyUpdate that neither asks nor not asks");
    if (r->len != 0) return violation(ret, KTLS_ALERT_UNEXPECTED_MESSAGE, "a KeyUpdate that is not last in its record");
    *ret = (struct ktls_event){ .kind = KTLS_EV_KEY_UPDATE, .update_requested = msg[4] == 1 };
    return 1;
}

static int alert_event(struct ktls_record_reader *r, struct ktls_event *ret) {
    const uint8_t *p = r->data;
    size_t len = r->len;
    r->len = 0;
    if (len != 2) return violation(ret, KTLS_ALERT_UNEXPECTED_MESSAGE, "an alert record that is not one alert");
    *ret = (struct ktls_event){ .kind = KTLS_EV_FATAL_ALERT, .alert = p[1] }; /* ends it, within a message or not */
    if (p[1] == KTLS_ALERT_CLOSE_NOTIFY) {
        ret->kind = KTLS_EV_CLOSE_NOTIFY;
    } else if (r->is_tls13) {
        if (p[1] == KTLS_ALERT_USER_CANCELED) ret->kind = KTLS_EV_WARNING_ALERT;
    } else if (p[0] == 1) {
        ret->kind = KTLS_EV_WARNING_ALERT;
    } else if (p[0] != 2) {
        return violation(ret, KTLS_ALERT_ILLEGAL_PARAMETER, "an alert of unknown level");
    }
    if (ret->kind == KTLS_EV_WARNING_ALERT && ktls_record_is_half(r))
        return violation(ret, KTLS_ALERT_UNEXPECTED_MESSAGE, "an alert within a handshake message");
    return 1;
}

static const uint8_t *take(struct ktls_record_reader *r, size_t len) {
    const uint8_t *p = r->data;
    r->data += len;
    r->len -= len;
    return p;
}

/* The message does not lie whole in this record: adds this record's share. 1: whole now; 0: more to come; 2: *ret is a violation.
 */
static int gather(struct ktls_record_reader *r, struct ktls_event *ret) {
    int alert;
    while (r->have < 4 && r->len > 0) r->head[r->have++] = *take(r, 1);
    if (r->have < 4) return 0;
    if (!r->part) {
        const char *why = refuse_header(r, r->head, &alert);
        if (why) {
            violation(ret, alert, why);
            return 2;
        }
        r->part = malloc(4 + body_len(r->head));
        if (!r->part) return -ENOMEM;
        memcpy(r->part, r->head, 4);
    }
    size_t total = 4 + body_len(r->head);
    size_t n = total - r->have < r->len ? total - r->have : r->len;
    if (n > 0) memcpy(r->part + r->have, take(r, n), n);
    r->have += n;
    return r->have == total;
}

static int handshake_event(struct ktls_record_reader *r, struct ktls_event *ret) {
    if (r->have == 0 && r->len >= 4) {
        int alert;
        const char *why = refuse_header(r, r->data, &alert);
        if (why) return violation(ret, alert, why);
        size_t total = 4 + body_len(r->data);
        if (r->len >= total) return message_event(r, take(r, total), ret);
    }
    int whole = gather(r, ret);
    if (whole == 2) return 1;
    if (whole != 1) return whole;
    r->part_done = true;
    return message_event(r, r->part, ret);
}

void ktls_record_begin(struct ktls_record_reader *r, uint8_t type, const uint8_t *data, size_t len) {
    r->type = type;
    r->data = data;
    r->len = len;
    /* An empty record would never give an event: mark it so that next() refuses it. */
    if (len == 0) r->data = NULL;
}

int ktls_record_next(struct ktls_record_reader *r, struct ktls_event *ret) {
    if (r->part_done) ktls_record_done(r);
    if (r->len == 0) {
        if (r->data) return 0;
        r->data = r->head; /* told once */
        return violation(ret, KTLS_ALERT_UNEXPECTED_MESSAGE, "an empty control record");
    }
    if (r->type == KTLS_CT_ALERT) return alert_event(r, ret);
    if (r->type == KTLS_CT_HANDSHAKE) return handshake_event(r, ret);
    r->len = 0;
    if (r->type == KTLS_CT_CHANGE_CIPHER_SPEC)
        return violation(ret, KTLS_ALERT_UNEXPECTED_MESSAGE, "a ChangeCipherSpec after the handshake");
    return violation(ret, KTLS_ALERT_UNEXPECTED_MESSAGE, "a record of unknown type");
}

bool ktls_record_is_half(const struct ktls_record_reader *r) {
    return r->have > 0 && !r->part_done;
}

void ktls_record_done(struct ktls_record_reader *r) {
    free(r->part);
    r->part = NULL;
    r->part_done = false;
    r->have = 0;
}
