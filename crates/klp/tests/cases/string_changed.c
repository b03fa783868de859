// expect: changed f
// expect: outside print
// A string's content counts, its place does not.
void print(const char *);

void f(void)
{
#ifdef PATCHED
	print("after");
#else
	print("before");
#endif
}

void g(void)
{
	print("the same as ever");
}
