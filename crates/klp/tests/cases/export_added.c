// expect: changed none
// expect: omitted table-changed __ksymtab_strings
int f(int x)
{
	return x;
}
#ifdef PATCHED
static const char name[] __attribute__((section("__ksymtab_strings"), used)) = "f";
#endif
