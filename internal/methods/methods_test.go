package methods

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTheMostSpecificPatternWins(t *testing.T) {
	t.Parallel()
	var m Map[string]
	_, ok := m.Get("/a.S/M")
	assert.False(t, ok, "an empty map matched")

	require.NoError(t, m.Set("/a.S/M", "exact"))
	require.NoError(t, m.Set("/a.S/*", "service"))
	got, ok := m.Get("/b.S/M")
	assert.False(t, ok, "another service matched")
	assert.Empty(t, got)
	require.NoError(t, m.Set("*", "all"))
	assert.Equal(t, 3, m.Len())

	for method, want := range map[string]string{
		"/a.S/M": "exact", "a.S/M": "exact", "/a.S/N": "service", "a.S/N": "service", "/a.S/m": "service",
		"/a.S2/M": "all", "/a/S/M": "all", "": "all", "/": "all", "nonsense": "all", "//a.S/M": "all",
	} {
		got, ok := m.Get(method)
		assert.True(t, ok, method)
		assert.Equal(t, want, got, method)
	}

	require.NoError(t, m.Set("a.S/M", "again"), "a pattern without its slash")
	got, _ = m.Get("/a.S/M")
	assert.Equal(t, "again", got, "the same pattern set twice")
	assert.Equal(t, 3, m.Len())
}

func TestAPatternIsOneOfThreeForms(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"*", "/a.S/M", "a.S/M", "/a.S/*", "a.S/*", "/S/M"} {
		assert.NoError(t, Validate(good), good)
	}
	var m Map[int]
	for _, bad := range []string{"", "/", "//", "/*", "a.S", "/a.S", "/a.S/", "/a.*/M", "/*/M", "/a.S/M*", "**", "/a/b/c", "/a.S/*/x"} {
		assert.ErrorContains(t, Validate(bad), "method pattern", bad)
		assert.Error(t, m.Set(bad, 1), bad)
	}
	assert.Zero(t, m.Len(), "a refused pattern was kept")
}

func TestSet(t *testing.T) {
	t.Parallel()
	var s Set
	assert.False(t, s.Has("/a.S/M"))
	require.NoError(t, s.Add("/a.S/M", "/b.S/*"))
	require.Error(t, s.Add("/c.S/M", "bad", "/d.S/M"))
	for method, want := range map[string]bool{
		"/a.S/M": true, "/a.S/N": false, "/b.S/X": true, "/c.S/M": true, "/d.S/M": false,
	} {
		assert.Equal(t, want, s.Has(method), method)
	}
}

func TestSplit(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][2]string{
		"/a.S/M": {"a.S", "M"}, "a.S/M": {"a.S", "M"}, "/a/b/M": {"a/b", "M"}, "/a.S/": {"a.S", ""}, "": {}, "/": {}, "M": {},
	} {
		service, method := Split(name)
		assert.Equal(t, want, [2]string{service, method}, name)
	}
}

//nolint:paralleltest // AllocsPerRun counts what the whole process allocates
func TestLookUpsDoNotAllocate(t *testing.T) {
	var m Map[*int]
	require.NoError(t, m.Set("/a.S/M", new(int)))
	require.NoError(t, m.Set("/a.S/*", new(int)))
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		_, _ = m.Get("/a.S/M")
		_, _ = m.Get("/a.S/N")
		_, _ = m.Get("/b.S/N")
	}))
}

func FuzzGet(f *testing.F) {
	for _, seed := range []string{"", "/", "/a.S/M", "a.S/M", "/a.S/", "//", "*"} {
		f.Add(seed)
	}
	var m Map[string]
	if err := m.Set("/a.S/M", "exact"); err != nil {
		f.Fatal(err)
	}
	if err := m.Set("/a.S/*", "service"); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, method string) {
		got, ok := m.Get(method)
		switch {
		case method == "/a.S/M" || method == "a.S/M":
			assert.Equal(t, "exact", got)
		case ok:
			assert.Equal(t, "service", got)
			service, _ := Split(method)
			assert.Equal(t, "a.S", service)
		}
	})
}
