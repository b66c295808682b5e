/* Opcodes of RDB files: what stands where the type of a value could. For persist/ and the tools that look into files. */
#ifndef KETTLE_PERSIST_RDB_OPCODE_H
#define KETTLE_PERSIST_RDB_OPCODE_H

enum rdb_opcode {
    RDB_OP_SLOT_INFO = 244,       /* slot, keys, expires: what a cluster node reserves */
    RDB_OP_FUNCTION2 = 245,       /* a library's code */
    RDB_OP_FUNCTION_PRE_GA = 246, /* of 7.0's release candidates */
    RDB_OP_MODULE_AUX = 247,
    RDB_OP_IDLE = 248, /* of the next key: seconds since its last access, a length */
    RDB_OP_FREQ = 249, /* of the next key: its LFU counter, one byte */
    RDB_OP_AUX = 250,  /* a name and a value */
    RDB_OP_RESIZEDB = 251,
    RDB_OP_EXPIRETIME_MS = 252, /* of the next key: 8 bytes */
    RDB_OP_EXPIRETIME = 253,    /* the same in seconds: 4 bytes */
    RDB_OP_SELECTDB = 254,
    RDB_OP_EOF = 255
};

#define RDB_MAGIC "REDIS"
#define RDB_HEADER_BYTES 9   /* magic and four digits */
#define RDB_CHECKSUM_SINCE 5 /* files of an older version have none */

#endif
