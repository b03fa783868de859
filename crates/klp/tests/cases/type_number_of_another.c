// expect: refused unknown-section __BTF_ID__struct__a__
// Another type at the same place: the bytes are the same until the kernel is linked.
#ifdef PATCHED
#define NAME "__BTF_ID__struct__b__16"
#else
#define NAME "__BTF_ID__struct__a__16"
#endif
asm(".pushsection .BTF_ids, \"a\"; .local " NAME "; .type " NAME ", STT_OBJECT; .size " NAME ", 4; " NAME
    ": .zero 4; .popsection");

int f(int x)
{
	return x;
}
