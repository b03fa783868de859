// expect: changed f
// expect: outside template_begin, template_end
// Where labels are, relative to one another and to what lies between, is as it is in the kernel: none is copied.
asm(".pushsection .rodata\n"
    ".globl template_begin, template_end\n"
    "template_begin: .byte 1, 2, 3, 4\n"
    "template_end: .popsection");
extern const char template_begin[], template_end[];

long f(int x)
{
#ifdef PATCHED
	if (x < 0)
		return 0;
#endif
	return (template_end + 24 - template_begin) + template_begin[x];
}
