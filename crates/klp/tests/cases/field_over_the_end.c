// expect: refused object f
// A function whose size ends within the field of its last call: taken out so, the call would be written over what
// comes to lie behind it.
asm(".pushsection .text.f, \"ax\"\n"
    ".globl f\n"
    ".type f, @function\n"
    "f: call __fentry__\n"
#ifdef PATCHED
    "nop\n"
#endif
    "ret\n"
    "call other\n"
    ".size f, . - f - 1\n"
    ".popsection");
