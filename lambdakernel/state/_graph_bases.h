/* The types that are known without study. Included by _graph.c. */

static void add_base(PyTypeObject *type, int role, int body, int owned)
{
    if (type == NULL || nbases == BASES_ROOM || base_info(type) != NULL)
        return;
    size_t at = find_cell(base_cells, 4 * BASES_ROOM - 1, NULL, type);
    Info *info = &bases[nbases++];
    Py_INCREF(type);
    *info = (Info){.type = type, .role = (uint8_t)role, .body = (uint8_t)body, .owned = (uint8_t)owned,
                   .has_dict = role == CONTAINER && type->tp_dictoffset != 0};
    base_cells[at] = (uint32_t)nbases;
}

/* A type of C whose fields are all among its members; unknown ones leave it opaque. */
static void add_base_of_members(PyTypeObject *type, const char *const *names, int owned)
{
    static Py_ssize_t slots[64];
    static size_t used;
    if (type == NULL || used + 4 > 64)
        return;
    Py_ssize_t *own = slots + used;
    uint16_t n = 0;
    for (; *names != NULL; names++) {
        PyMemberDef *m = type->tp_members;
        while (m != NULL && m->name != NULL && strcmp(m->name, *names) != 0)
            m++;
        if (m == NULL || m->name == NULL || (m->type != MEMBER_OBJECT && m->type != MEMBER_OBJECT_EX))
            return;
        own[n++] = m->offset;
    }
    size_t before = nbases;
    add_base(type, CONTAINER, NO_BODY, owned);
    if (nbases > before) {
        bases[before].slots = own;
        bases[before].nslots = n;
        used += n;
    }
}

/* A type by its name in a module; NULL with no exception if there is none. The table of bases keeps it. */
static PyTypeObject *type_named(const char *module, const char *name)
{
    PyObject *from = PyImport_ImportModule(module);
    PyObject *found = from != NULL ? PyObject_GetAttrString(from, name) : NULL;
    Py_XDECREF(from);
    if (found == NULL)
        PyErr_Clear();
    return (PyTypeObject *)(found != NULL && PyType_Check(found) ? found : NULL);
}

static void add_atoms(void)
{
    PyTypeObject *values[] = {&PyLong_Type, &PyFloat_Type, &PyComplex_Type, &PyUnicode_Type, &PyBytes_Type};
    for (size_t i = 0; i < Py_ARRAY_LENGTH(values); i++)
        add_base(values[i], ATOM, VALUE_BODY, 0);
    PyTypeObject *atoms[] = {
        &PyBool_Type, Py_TYPE(Py_None), Py_TYPE(Py_Ellipsis), Py_TYPE(Py_NotImplemented), &PyRange_Type, &PyType_Type,
        &PyCode_Type, &PyMethodDescr_Type, &PyWrapperDescr_Type, &PyGetSetDescr_Type, &PyMemberDescr_Type,
        &PyClassMethodDescr_Type, PyDateTimeAPI->DateType, PyDateTimeAPI->DeltaType,
        Py_TYPE(PyDateTimeAPI->TimeZone_UTC),
    };
    for (size_t i = 0; i < Py_ARRAY_LENGTH(atoms); i++)
        add_base(atoms[i], ATOM, NO_BODY, 0);
    add_base(PyDateTimeAPI->DateTimeType, MOMENT, NO_BODY, 0);
    add_base(PyDateTimeAPI->TimeType, MOMENT, NO_BODY, 0);
    add_base(&PyModule_Type, MODULE, NO_BODY, 0);
}

static void add_containers(void)
{
    add_base(&PyBaseObject_Type, CONTAINER, NO_BODY, 0);
    add_base(&PyList_Type, CONTAINER, LIST_BODY, 0);
    add_base(&PyTuple_Type, CONTAINER, TUPLE_BODY, 0);
    add_base(&PyDict_Type, CONTAINER, DICT_BODY, 0);
    add_base(&PySet_Type, CONTAINER, SET_BODY, 0);
    add_base(&PyFrozenSet_Type, CONTAINER, SET_BODY, 0);
    add_base(&PyMethod_Type, CONTAINER, METHOD_BODY, 0);
    add_base(&PyCell_Type, CONTAINER, CELL_BODY, 0);
    add_base(&PyDictKeys_Type, CONTAINER, VIEW_BODY, 0);
    add_base(&PyDictValues_Type, CONTAINER, VIEW_BODY, 0);
    add_base(&PyDictItems_Type, CONTAINER, VIEW_BODY, 0);
    add_base(&PyFunction_Type, FUNCTION, FUNCTION_BODY, 0);
    add_base(&PyCFunction_Type, BUILTIN, BUILTIN_BODY, 0);
    add_base(&PyCMethod_Type, BUILTIN, BUILTIN_BODY, 0);
    add_base(&_PyWeakref_RefType, WEAKREF, WEAKREF_BODY, 0);
    if (PyODict_Type.tp_basicsize == sizeof(ODict) && PyODict_Type.tp_dictoffset == offsetof(ODict, inst_dict))
        add_base(&PyODict_Type, CONTAINER, ODICT_BODY, 0);
    PyObject *implementation = PySys_GetObject("implementation");
    if (implementation != NULL && Py_TYPE(implementation)->tp_dictoffset == sizeof(PyObject))
        add_base(Py_TYPE(implementation), CONTAINER, NO_BODY, 0);  /* types.SimpleNamespace */
    static const char *const slice[] = {"start", "stop", "step", NULL}, *const alias[] = {"__origin__", "__args__", NULL},
        *const args[] = {"__args__", NULL}, *const partial[] = {"func", "args", "keywords", NULL},
        *const factory[] = {"default_factory", NULL};
    add_base_of_members(&PySlice_Type, slice, 1);
    add_base_of_members(&Py_GenericAliasType, alias, 1);
    add_base_of_members(type_named("types", "UnionType"), args, 1);
    add_base_of_members(type_named("functools", "partial"), partial, 0);
    PyTypeObject *defaults = type_named("collections", "defaultdict");
    add_base_of_members(defaults, factory, 0);
    if (defaults != NULL && base_info(defaults) != NULL)
        bases[nbases - 1].body = DICT_BODY;
}

static void add_deque(void)
{
    deque_type = type_named("collections", "deque");
    for (PyGetSetDef *g = deque_type != NULL ? deque_type->tp_getset : NULL; g != NULL && g->name != NULL; g++)
        if (strcmp(g->name, "maxlen") == 0)
            deque_maxlen = g;
    if (deque_maxlen != NULL && deque_type->tp_traverse != NULL)
        add_base(deque_type, CONTAINER, DEQUE_BODY, 0);
}

static int add_bases(void)
{
    PyObject *sample = PyObject_CallFunction((PyObject *)&PyType_Type, "s(){}", "sample");
    if (sample == NULL)
        return -1;
    class_traverse = ((PyTypeObject *)sample)->tp_traverse;
    Py_DECREF(sample);
    enum_type = type_named("enum", "EnumType");
    finalizer_type = type_named("weakref", "finalize");
    str_dunder_name = PyUnicode_InternFromString("__name__");
    str_dunder_spec = PyUnicode_InternFromString("__spec__");
    str_dunder_file = PyUnicode_InternFromString("__file__");
    if (enum_type == NULL || finalizer_type == NULL || class_traverse == NULL || str_dunder_name == NULL
        || str_dunder_spec == NULL || str_dunder_file == NULL) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ImportError, "object layouts of this Python are not known here");
        return -1;
    }
    add_atoms();
    add_containers();
    add_deque();
    return 0;
}
