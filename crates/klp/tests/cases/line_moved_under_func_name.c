// expect: changed none
// __func__ is a variable that the compiler names anew each time; here nothing of its meaning changes.
void print(const char *);
#ifdef PATCHED
static __attribute__((used)) const char *unrelated(void)
{
	return 0;
}
#endif

void f(void)
{
	print(__func__);
}

void g(void)
{
	print(__func__);
}
