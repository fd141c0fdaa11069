/* Where the elements of a set are in its table: in which order it lists them. Included by _graph.c.

   A set lists its elements by their place, which depends on their hashes and on how it grew and shrank; a pickle says
   only what is in it. So of a set that would list them otherwise once they were added anew, the places are kept, and a
   load puts the elements there. This is so for elements whose hash is the same in every process of a session (numbers and
   texts, and tuples of those): nothing of theirs runs. */

enum { DEEPEST_ELEMENT = 8 };

static int has_same_hash_everywhere(PyObject *o, int depth)
{
    if (PyTuple_CheckExact(o)) {
        int same = depth < DEEPEST_ELEMENT;
        for (Py_ssize_t i = 0; same && i < PyTuple_GET_SIZE(o); i++)
            same = has_same_hash_everywhere(PyTuple_GET_ITEM(o, i), depth + 1);
        return same;
    }
    PyTypeObject *type = Py_TYPE(o);
    return type == &PyUnicode_Type || type == &PyLong_Type || type == &PyBytes_Type || type == &PyBool_Type || type == &PyComplex_Type
           || (type == &PyFloat_Type && PyFloat_AS_DOUBLE(o) == PyFloat_AS_DOUBLE(o));
}

static inline int is_element(const setentry *entry)
{
    return entry->key != NULL && entry->hash != -1;
}

/* What a set has at a place from which something was removed. */
static PyObject *removed_element(void)
{
    PyObject *sample = PySet_New(NULL), *removed = NULL;
    if (sample != NULL && PySet_Add(sample, Py_None) == 0 && PySet_Discard(sample, Py_None) == 1) {
        const PySetObject *set = (PySetObject *)sample;
        for (Py_ssize_t i = 0; i <= set->mask; i++)
            if (set->table[i].key != NULL && set->table[i].hash == -1)
                removed = set->table[i].key;
    }
    Py_XDECREF(sample);
    if (removed == NULL && !PyErr_Occurred())
        PyErr_SetString(PyExc_RuntimeError, "sets of this Python are not known here");
    return removed;  /* it lives as long as the interpreter */
}

/* A set to which the elements were added in the order in which this one lists them, as a load will do; NULL if nothing
   can be said of them in another process, or with an exception. */
static PySetObject *added_anew(const PySetObject *set)
{
    PySetObject *anew = (PySetObject *)PySet_New(NULL);
    int failed = anew == NULL;
    for (Py_ssize_t i = 0; !failed && i <= set->mask; i++)
        if (is_element(&set->table[i]))
            failed = !has_same_hash_everywhere(set->table[i].key, 0) || PySet_Add((PyObject *)anew, set->table[i].key) < 0;
    if (failed)
        Py_CLEAR(anew);
    return anew;
}

static int has_same_places(const PySetObject *a, const PySetObject *b)
{
    int same = a->mask == b->mask && a->fill == b->fill;
    for (Py_ssize_t i = 0; same && i <= a->mask; i++)
        same = a->table[i].key == b->table[i].key;
    return same;
}

/* (set, size of its table, places of its elements in the order in which one of `anew` lists them, places of removed
   ones); places are 32 bits each, the lowest byte first. */
static PyObject *places_of_set(PyObject *o, const PySetObject *anew)
{
    const PySetObject *set = (PySetObject *)o;
    Writer places = {0}, removed = {0};
    Places by_element = {0};
    PyObject *found = NULL;
    int failed = WRITTEN;
    for (Py_ssize_t i = 0; !failed && i <= set->mask; i++) {
        if (is_element(&set->table[i]))
            failed = set_place(&by_element, set->table[i].key, (uint32_t)i);
        else if (set->table[i].key != NULL)
            failed = put_bits(&removed, (uint64_t)i, 4);
    }
    for (Py_ssize_t i = 0; !failed && i <= anew->mask; i++)
        if (is_element(&anew->table[i]))
            failed = put_bits(&places, place_of(&by_element, anew->table[i].key) - 1, 4);
    if (!failed)
        found = Py_BuildValue("Ony#y#", o, set->mask + 1, places.n ? places.out : "", (Py_ssize_t)places.n,
                              removed.n ? removed.out : "", (Py_ssize_t)removed.n);
    PyMem_RawFree(by_element.keys);
    PyMem_RawFree(by_element.places);
    PyMem_RawFree(places.out);
    PyMem_RawFree(removed.out);
    return found;
}

static const Record *nth_record(const Snapshot *s, size_t i)
{
    return s->base == NULL ? &s->records[i] : s->parts[i].is_gone ? NULL : &s->parts[i].record;
}

static int is_set_record(const Snapshot *s, const Record *record)
{
    PyTypeObject *type = record != NULL ? info_at(s->base != NULL ? s->base->infos : s->infos, record->type)->type : NULL;
    return type == &PySet_Type || type == &PyFrozenSet_Type;
}

static PyObject *disordered_sets(const Snapshot *s, size_t n)
{
    PyObject *found = PyList_New(0);
    for (size_t i = 0; found != NULL && i < n; i++) {
        const Record *record = nth_record(s, i);
        if (!is_set_record(s, record))
            continue;
        const PySetObject *set = (PySetObject *)record->obj;
        PySetObject *anew = added_anew(set);
        int same = anew == NULL || set->mask >= UINT32_MAX || has_same_places(anew, set);
        if (PyErr_Occurred() || (!same && append_new(found, places_of_set(record->obj, anew)) < 0))
            Py_CLEAR(found);
        Py_XDECREF(anew);
    }
    return found;
}

/* disordered(roots): of the sets that were met, those whose elements would be at other places once they were added anew.
   Of an amended snapshot, only those that are new or changed. None if something changed since. */
static PyObject *snapshot_disordered(Snapshot *s, PyObject *roots)
{
    if (!PyTuple_Check(roots)) {
        PyErr_SetString(PyExc_TypeError, "roots are a tuple");
        return NULL;
    }
    size_t n = s->base != NULL ? s->nparts : s->nrecords, sets = 0;
    for (size_t i = 0; i < n; i++)
        sets += (size_t)is_set_record(s, nth_record(s, i));
    if (sets == 0)
        return PyList_New(0);
    int collects = PyGC_Disable();
    int differs = (s->base != NULL ? amended_graph_differs : graph_differs)(s, &PyTuple_GET_ITEM(roots, 0), (size_t)PyTuple_GET_SIZE(roots));
    PyObject *found = differs ? Py_NewRef(Py_None) : disordered_sets(s, n);
    if (collects)
        PyGC_Enable();
    return found;
}

/* -- back */

static Py_ssize_t nth_place(const char *places, Py_ssize_t n)
{
    const unsigned char *at = (const unsigned char *)places + 4 * n;
    return (Py_ssize_t)(at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24);
}

/* A table with the elements of `set` at `places`; NULL if they do not fit, or with an exception. */
static setentry *arranged_table(const PySetObject *set, Py_ssize_t size, const char *places, const char *removed, Py_ssize_t nremoved)
{
    PyObject *dummy = removed_element();
    setentry *table = dummy != NULL ? PyMem_Calloc((size_t)size, sizeof *table) : NULL;
    if (table == NULL) {
        if (dummy != NULL)
            PyErr_NoMemory();
        return NULL;
    }
    int fits = 1;
    for (Py_ssize_t k = 0, i = 0; fits && k < set->used + nremoved; k++) {
        Py_ssize_t at = k < set->used ? nth_place(places, k) : nth_place(removed, k - set->used);
        fits = at < size && table[at].key == NULL;
        while (k < set->used && !is_element(&set->table[i]))
            i++;
        if (fits)
            table[at] = k < set->used ? set->table[i++] : (setentry){dummy, -1};
    }
    if (fits)
        return table;
    PyMem_Free(table);
    return NULL;
}

static void put_table(PySetObject *set, setentry *table, Py_ssize_t size, Py_ssize_t fill)
{
    if (size == PySet_MINSIZE) {
        memcpy(set->smalltable, table, sizeof set->smalltable);
        set->table = set->smalltable;
    } else {
        set->table = table;
    }
    set->mask = size - 1;
    set->fill = fill;
    set->finger = 0;
}

/* Whether each element is found where the table of `set` has it. */
static int finds_all(PySetObject *set)
{
    int found = 1;
    for (Py_ssize_t i = 0; found == 1 && i <= set->mask; i++)
        if (is_element(&set->table[i]))
            found = PySet_Contains((PyObject *)set, set->table[i].key);
    return found;
}

/* arrange(set, size, places, removed): whether the elements of a set that was just loaded are at their places now. If
   not, it is as it was: their hashes are others here. */
static PyObject *arrange(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *o;
    const char *places, *removed;
    Py_ssize_t size, nplaces, nremoved;
    if (!PyArg_ParseTuple(args, "Ony#y#:arrange", &o, &size, &places, &nplaces, &removed, &nremoved))
        return NULL;
    if (!PyAnySet_CheckExact(o))
        Py_RETURN_FALSE;
    PySetObject *set = (PySetObject *)o;
    Py_ssize_t fill = (nplaces + nremoved) / 4;
    int fits = nplaces == 4 * set->used && nremoved % 4 == 0 && size >= PySet_MINSIZE && !(size & (size - 1))
               && size <= UINT32_MAX && fill < size;
    for (Py_ssize_t i = 0; fits && i <= set->mask; i++)
        fits = !is_element(&set->table[i]) || has_same_hash_everywhere(set->table[i].key, 0);
    setentry *table = fits ? arranged_table(set, size, places, removed, nremoved / 4) : NULL;
    if (table == NULL)
        return PyErr_Occurred() ? NULL : PyBool_FromLong(0);
    PySetObject before = *set;
    setentry *old = set->table != set->smalltable ? set->table : NULL;
    put_table(set, table, size, fill);
    fits = finds_all(set);
    if (fits != 1) {
        put_table(set, old != NULL ? old : before.smalltable, before.mask + 1, before.fill);
        PyMem_Free(table);
        return fits < 0 ? NULL : PyBool_FromLong(0);
    }
    if (size == PySet_MINSIZE)
        PyMem_Free(table);
    PyMem_Free(old);
    Py_RETURN_TRUE;
}
