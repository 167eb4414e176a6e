/* Between parser and decoder: symbols and one statement at a time. */
#ifndef PTX_H
#define PTX_H
#include "emu.h"

typedef enum TokKind { K_END, K_WORD, K_DOT, K_INT, K_FLOAT, K_F32, K_F64, K_STRING, K_PUNCT } TokKind;
typedef struct Tok {
    TokKind kind;
    const char *text; /* into the source, not terminated */
    u32 length, line;
    u64 value; /* an integer's value or a float's bits (K_FLOAT: of a double) */
    bool is_unsigned;
    bool spaced; /* white space before it */
} Tok;

typedef struct Lexer {
    const char *at;
    u32 line;
    const char *error;
} Lexer;
Tok lex(Lexer *l); /* error set: the token is bad */

typedef enum SymKind { Y_REG, Y_VAR, Y_LABEL, Y_FUNC, Y_PROTO, Y_TARGETS, Y_SREG } SymKind;
typedef struct Sym {
    struct Sym *next; /* in its bucket */
    const char *name;
    SymKind kind;
    u32 depth; /* of the scope that owns it */
    Type type;
    Opnd reg;
    Var *var;
    Func *func;
    u32 label;
    char **names; /* of .branchtargets */
    u32 nnames;
} Sym;

typedef enum OpKind { O_NAME, O_INT, O_FLOAT, O_F32, O_F64, O_ADDRESS, O_VECTOR, O_LIST, O_SINK } OpKind;
typedef struct Operand {
    OpKind kind;
    bool neg; /* ! */
    bool is_unsigned;
    u64 value;             /* constants; the displacement of an address */
    const char *name;      /* O_NAME, O_ADDRESS (NULL: an absolute one) */
    const char *part;      /* "b0" of r.b0, for the video instructions; NULL: all of it */
    Sym *sym;              /* what the name is, if it is known already */
    struct Operand *items; /* vector and list */
    u32 nitems;
    struct Operand *pair; /* p|q: q */
} Operand;

enum { MAX_MODS = 24, MAX_OPERANDS = 16 };
typedef struct Stmt {
    u32 line;
    const char *op;
    const char *mods[MAX_MODS]; /* without their dot */
    bool used[MAX_MODS];        /* the decoder knows it */
    u32 nmods;
    Operand operands[MAX_OPERANDS];
    u32 noperands;
    Operand guard;
    bool guarded;
} Stmt;

typedef struct Fixup {
    struct Fixup *next;
    const char *name;
    u32 ins;
    u32 slot;
    u32 depth, line;
} Fixup;
enum { BUCKETS = 4096 };
#define NO_SLOT 0xffffffffu
typedef struct Parser {
    Lexer lexer;
    Tok tok;
    Module *m;
    Log *log;
    jmp_buf fail;
    Sym *buckets[BUCKETS];
    u32 depth;
    Func *func;    /* being parsed, or NULL */
    Fixup *fixups; /* branches to labels not seen yet */
} Parser;

_Noreturn void ptx_fail(Parser *p, u32 line, const char *format, ...) __attribute__((format(printf, 3, 4)));
Sym *sym_find(Parser *p, const char *name);
Sym *sym_add(Parser *p, const char *name, SymKind kind, u32 line);
void parse_variable(Parser *p, Space space, bool external); /* ptx_vars.c: from after the space */
void parse_registers(Parser *p);
u64 parse_constant(Parser *p);   /* a constant expression among operands */
u64 parse_expression(Parser *p); /* and anywhere else: with | and ?: */
enum { MAX_DIMS = 8 };
u64 count_items(Parser *p); /* ptx_init.c: of the list that comes; nothing is taken */
void parse_initialiser(Parser *p, Var *v, Type type, const u64 *dims, u32 ndims);
Param parse_param(Parser *p, bool entry);
Opnd new_register(Parser *p, Type type);
/* token helpers */
void advance(Parser *p);
bool tok_is(Tok t, TokKind kind, const char *word);
bool is_punct(const Parser *p, char c);
bool accept(Parser *p, char c);
void expect(Parser *p, char c);
bool is_dot(const Parser *p, const char *word);
bool accept_dot(Parser *p, const char *word);
char *tok_string(Parser *p, Tok t);
char *expect_word(Parser *p);
u64 expect_int(Parser *p);
_Noreturn void unexpected(Parser *p, const char *wanted);
/* ptx_parse.c, for ptx_module.c */
void parse_body(Parser *p); /* of a function, from after its { to after its } */
void close_scope(Parser *p);
bool parse_space(Parser *p, Space *space);
void skip_loc(Parser *p);
void skip_pragma(Parser *p);

void place_functions(Module *m); /* ptx_place.c */
void find_recursion(Parser *p);

/* ptx_operand.c */
Operand parse_operand(Parser *p);
Operand parse_named(Parser *p, OpKind kind);       /* O_NAME, or O_ADDRESS: a name inside [ ] */
void parse_items(Parser *p, Operand *o, char end); /* from after the opening bracket to after end */

/* target.c: what the module's .target is too old for */
void check_target(Parser *p, const Stmt *s);
void needs_target(Parser *p, u32 line, const char *what, u32 sm);

/* decode.c: the statement becomes one or more instructions at the end of p->m->code. */
void decode(Parser *p, Stmt *s);
Ins *new_ins(Parser *p, const Stmt *s);

/* what decoders use */
typedef void Decoder(Parser *p, Stmt *s);
bool mod(Stmt *s, const char *word);           /* takes it if it is there */
int mod_of(Stmt *s, const char *const *words); /* index of the one that is there, or -1; NULL ends */
Type mod_type(Parser *p, Stmt *s);             /* takes the next type; fails if there is none */
Type mod_type_opt(Stmt *s);
int mod_rounding(Stmt *s);
void mods_done(Parser *p, Stmt *s); /* fails on one nobody took */
void operands_are(Parser *p, Stmt *s, u32 least, u32 most);
Opnd source(Parser *p, Stmt *s, const Operand *o, Type type);
Opnd source_any(Parser *p, Stmt *s, const Operand *o, Type type); /* a register may be wider */
Opnd dest(Parser *p, Stmt *s, const Operand *o, Type type, bool wider);
Opnd predicate(Parser *p, Stmt *s, const Operand *o);
Opnd constant(Parser *p, Type type, u64 bits);
i64 integer(Parser *p, Stmt *s, const Operand *o); /* an immediate */
void set_sources(Parser *p, Ins *i, const Opnd *s, u32 n);
void set_dests(Parser *p, Ins *i, const Opnd *d, u32 n);
u32 vector_of(Parser *p, Stmt *s, const Operand *o, Operand **items); /* the elements; a scalar is one */
/* The base of an address becomes source operand (u64 or u32), the displacement i->imm. */
Opnd address(Parser *p, Stmt *s, const Operand *o, Space *space, i64 *displacement);
Space mod_space(Stmt *s, Space otherwise);
void branch_target(Parser *p, Ins *i, u32 slot, const Operand *o, u32 line);
u16 csr_of(int rounding, bool ftz);

/* Rows of pure instructions: decode_alu.c finds the one that fits. */
typedef struct Row {
    const char *name; /* opcode and the modifiers that make it what it is, "mul.hi" */
    const char
        *flags; /* what else it may carry: r rounding, R must, n .rn, N must, f .ftz, s .sat, a .approx */
    Type type;
    const char *sig; /* the destination, then the sources, "dxy": w twice the type, u .u32, s .s32, b .b32, q
                      * .b64, h .b16, f .f32, p a predicate, i a constant, any other letter the type itself */
    Kernel *kernel;
} Row;
extern const Row rows_int[], rows_logic[], rows_float[], rows_half[], rows_approx[]; /* name NULL ends */
typedef struct Special {
    const char *op;
    Decoder *decode;
} Special;
extern const Special decoders_move[], decoders_flow[], decoders_memory[], decoders_warp[], decoders_matrix[],
    decoders_compare[], decoders_async[], decoders_barrier[], decoders_convert[], decoders_atomic[],
    decoders_wmma[], decoders_calls[];
void calls_move(const Ins *i, u32 bytes, u32 poison);
extern const Special decoders_video[];
bool decode_alu(Parser *p, Stmt *s); /* false: the opcode is not one of the tables' */
#endif
