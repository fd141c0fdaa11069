/* An amended snapshot as one that has no base: for all that looks at each of its objects. Included by _graph.c. */

static int copy_infos(Snapshot *s, const Snapshot *base)
{
    s->infos = PyMem_RawCalloc(base->ninfos + 1, sizeof *s->infos);
    if (s->infos == NULL)
        return FAILED;
    for (size_t i = 0; i < base->ninfos; i++) {
        Py_ssize_t *slots = NULL;
        size_t nbytes = base->infos[i].nslots * sizeof *slots;
        if (nbytes > 0) {
            if ((slots = PyMem_RawMalloc(nbytes)) == NULL)
                return FAILED;
            memcpy(slots, base->infos[i].slots, nbytes);
        }
        s->infos[i] = base->infos[i];
        s->infos[i].slots = slots;
        Py_INCREF(s->infos[i].type);
        s->ninfos++;
    }
    return WRITTEN;
}

static int copy_leaves(Snapshot *s, const Snapshot *base)
{
    s->leaves = PyMem_RawCalloc(base->nleaves + 1, sizeof *s->leaves);
    if (s->leaves == NULL)
        return FAILED;
    for (size_t i = 0; i < base->nleaves; i++) {
        s->leaves[i] = base->leaves[i];
        Py_INCREF(s->leaves[i].type);
        Py_INCREF(s->leaves[i].token);
        s->nleaves++;
    }
    s->leaf = Py_XNewRef(base->leaf);
    return WRITTEN;
}

static int copy_objects(Snapshot *s, const Snapshot *from, size_t nrecords, size_t nwords)
{
    uint32_t *places = PyMem_RawMalloc((count_of(from) + 1) * sizeof *places);
    s->words = PyMem_RawMalloc((nwords + 1) * sizeof *s->words);
    s->records = PyMem_RawMalloc((nrecords + 1) * sizeof *s->records);
    s->parents = PyMem_RawMalloc((nrecords + 1) * sizeof *s->parents);
    if (places == NULL || s->words == NULL || s->records == NULL || s->parents == NULL) {
        PyMem_RawFree(places);
        return FAILED;
    }
    Cursor cursor = cursor_of(from);
    size_t i = AT_ROOT, n = from->nroots;
    const uintptr_t *words = from->words;
    const Record *record = NULL;
    s->nroots = n;
    do {
        for (size_t k = 0; k < n; k++) {
            if (!(words[k] & NOT_OWNED))
                Py_INCREF((PyObject *)words[k]);
            s->words[s->nwords++] = words[k];
        }
        if (record != NULL) {
            uint32_t parent = parent_of(from, i);
            places[i] = (uint32_t)s->nrecords;
            s->parents[s->nrecords] = parent == AT_ROOT ? AT_ROOT : places[parent];
            s->records[s->nrecords] = *record;
            s->records[s->nrecords++].count = (uint32_t)n;
        }
    } while ((record = next_object(&cursor, &i, &words, &n)) != NULL);
    PyMem_RawFree(places);
    return WRITTEN;
}

static int copy_shared(Snapshot *s, const Snapshot *from)
{
    const Snapshot *base = from->base;
    Addresses gone = {.all = from->shared_gone, .n = from->nshared_gone};
    s->shared = PyMem_RawMalloc((base->nshared + from->nshared + 1) * sizeof *s->shared);
    if (s->shared == NULL)
        return FAILED;
    for (size_t i = 0; i < base->nshared; i++) {
        Py_ssize_t at = gone.n > 0 ? find_address(&gone, base->shared[i]) : -1;
        if (at == -2)
            return FAILED;
        if (at == -1)
            s->shared[s->nshared++] = base->shared[i];
    }
    PyMem_RawFree(gone.cells);
    for (size_t i = 0; i < from->nshared; i++)
        s->shared[s->nshared++] = from->shared[i];
    return WRITTEN;
}

/* Everything that it has from its base is its own afterwards. */
static int stand_alone(Snapshot *s)
{
    if (s->base == NULL || s->nroots == SIZE_MAX || s->base->nroots == SIZE_MAX)
        return WRITTEN;
    Snapshot own = *s, before = *s;
    own.words = NULL, own.records = NULL, own.infos = NULL, own.leaves = NULL, own.shared = NULL, own.parents = NULL;
    own.nwords = own.nrecords = own.ninfos = own.nleaves = own.nroots = own.nshared = 0;
    own.leaf = NULL;
    size_t i, n, nrecords = 0, nwords = s->nroots;
    const uintptr_t *words;
    Cursor cursor = cursor_of(s);
    while (next_object(&cursor, &i, &words, &n) != NULL) {
        nrecords++;
        nwords += n;
    }
    int failed = copy_infos(&own, s->base) || copy_leaves(&own, s->base) || copy_objects(&own, s, nrecords, nwords)
                 || copy_shared(&own, s);
    own.base = NULL, own.parts = NULL, own.moves = NULL, own.shared_gone = NULL;
    own.nparts = own.nchanged = own.nmoves = own.nshared_gone = 0;
    if (failed) {
        snapshot_clear(&own);
        forget(&own);
        PyErr_NoMemory();
        return FAILED;
    }
    *s = own;
    Py_DECREF(before.base);
    drop_words(before.words, before.nwords);
    PyMem_RawFree(before.shared);
    drop_parts(&before);
    return WRITTEN;
}
