// expect: changed f
// expect: outside __BTF_ID__struct__a__16
// BTF_ID names its numbers after a counter and the source line. Of one type there may be several.
#ifdef PATCHED
#define ID(type, was, is) BTF_ID(type, is)
#else
#define ID(type, was, is) BTF_ID(type, was)
#endif
#define BTF_ID(type, number)                                                                                          \
	asm(".pushsection .BTF_ids, \"a\"; .local __BTF_ID__struct__" #type "__" #number "; .type __BTF_ID__struct__"     \
	    #type "__" #number ", STT_OBJECT; .size __BTF_ID__struct__" #type "__" #number ", 4; __BTF_ID__struct__"      \
	    #type "__" #number ": .zero 4; .popsection")

asm(".pushsection .BTF_ids, \"a\"; ids: .popsection");
ID(a, 16, 17);
ID(b, 27, 28);
ID(a, 38, 39);
extern int ids[];
static const int *const holder = &ids[1];

int f(void)
{
#ifdef PATCHED
	return ids[0] + 2;
#else
	return ids[0] + 1;
#endif
}

int unchanged(void)
{
	asm volatile("" : : "r"(&holder));
	return ids[2] + *holder;
}
